"""The whole server of one machine: tritonserver with the model and the frontend, run and stopped as one.

If either process ends by itself, the stack fails: half a stack serves nobody.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from commands import CommandFailed
from commands.frontend_server import FrontendAddress, FrontendServer
from commands.model_control import ModelControl, ModelUnwell
from commands.server_log import follow
from commands.supervisor import Supervisor
from commands.triton_installation import TritonInstallation
from commands.triton_server import HOST, TritonPorts, TritonServer

MODEL = "qwen3_tts"
FIRST_ANSWER_TIMEOUT = 10.0
READY_TIMEOUT = 30.0
POLL = 0.05
# glibc gives threads that allocate at the same time heaps of their own, up to eight a core, and each keeps what it once
# needed. Two are enough here: one thread computes, and what others allocate is small.
FEW_HEAPS = {"MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True)
class StackPlan:
    """What is to be started, and where. `environment` is inherited by both processes."""

    installation: TritonInstallation
    repository: Path
    frontend: FrontendAddress
    triton: TritonPorts
    log: Path
    environment: Mapping[str, str] = field(repr=False)


class ServerProcess(Protocol):
    async def ended(self) -> int: ...
    async def stop(self) -> None: ...
    def kill(self) -> None: ...


class Stack:
    """Runs a plan. run() does the work; stop() must follow it, whatever happened."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self._triton: TritonServer | None = None
        self._frontend: FrontendServer | None = None

    async def run(self, when_ready: Callable[[Mapping[str, Any]], None]) -> None:
        """Starts everything, calls `when_ready` with the model's description, keeps it well until cancelled.

        Raises CommandFailed when something cannot be started or has ended.
        """
        plan = self._plan
        environment = {**FEW_HEAPS, **plan.environment}
        async with contextlib.AsyncExitStack() as resources:
            try:
                async with asyncio.TaskGroup() as tasks:
                    triton = await TritonServer.start(
                        plan.installation, plan.repository, plan.triton, environment, plan.log
                    )
                    self._triton = triton
                    tasks.create_task(follow(plan.log))
                    tasks.create_task(_fail_at_the_end_of(triton, f"tritonserver (its log: {plan.log})"))
                    await _listening(plan.triton.grpc)
                    url = f"{HOST}:{plan.triton.grpc}"
                    control = await resources.enter_async_context(ModelControl(url, MODEL))
                    description = await _loaded(control)
                    frontend = await FrontendServer.start(plan.frontend, url, environment)
                    self._frontend = frontend
                    tasks.create_task(_fail_at_the_end_of(frontend, "the frontend"))
                    await _ready(frontend)
                    when_ready(description)
                    tasks.create_task(Supervisor(control, triton.kill_stubs).watch())
            except* CommandFailed as failures:
                raise failures.exceptions[0] from None

    async def stop(self) -> None:
        """Ends the frontend, which may finish what it speaks, then tritonserver; nothing remains of either."""
        for process in self._processes():
            await process.stop()

    def kill(self) -> None:
        """Cuts a stop() short."""
        for process in self._processes():
            process.kill()

    def _processes(self) -> list[ServerProcess]:
        return [process for process in (self._frontend, self._triton) if process is not None]


async def _fail_at_the_end_of(process: ServerProcess, name: str) -> None:
    status = await process.ended()
    raise CommandFailed(f"{name} has ended by itself with status {status}")


async def _listening(port: int) -> None:
    """Returns when the port accepts connections; the end of the server's process ends the wait."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(POLL)
        else:
            writer.close()
            return


async def _loaded(control: ModelControl) -> dict[str, Any]:
    await control.load()
    try:
        return await control.describe(FIRST_ANSWER_TIMEOUT)
    except ModelUnwell as unwell:
        raise CommandFailed(f"the model was loaded but does not answer: {unwell}") from unwell


async def _ready(frontend: FrontendServer) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            while not await frontend.is_ready():  # noqa: ASYNC110
                await asyncio.sleep(POLL)
    except TimeoutError as error:
        raise CommandFailed(f"the frontend is not ready after {READY_TIMEOUT:g} s") from error
