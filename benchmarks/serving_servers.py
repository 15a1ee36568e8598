"""A real tritonserver and a real frontend in processes of their own, started for a benchmark and ended with it.

Writes a model repository of its own where the one of this checkout is not to be served as it is. Knows no load.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving_engine import CONTRACT, ROOT, VOICES
from commands.frontend_server import FrontendAddress
from commands.ports import free_ports
from commands.stack import MODEL, Stack, StackPlan
from commands.triton_installation import find_installation
from commands.triton_server import HOST, TritonPorts

REPOSITORY = ROOT / "model_repository"

# All load comes from one address, which no limit for strangers is meant for.
_OPEN_DOORS = {
    "FRONTEND_MAX_SOCKETS_PER_KEY": "10000",
    "FRONTEND_MAX_SOCKETS_PER_ADDRESS": "10000",
    "FRONTEND_MAX_UTTERANCES_PER_KEY": "10000",
    "FRONTEND_CHARACTER_RATE_PER_S": "10000000",
    "FRONTEND_CHARACTER_BURST": "1000000000",
    "FRONTEND_MESSAGE_RATE_PER_S": "10000",
    "FRONTEND_MESSAGE_BURST": "10000",
    "FRONTEND_LOG_LEVEL": "WARNING",
}
_INSTANT_MODEL = """\
import sys

sys.path[:0] = [{engine!r}, {root!r}]
from pathlib import Path

from benchmarks.serving_instant import instant_model

TritonPythonModel = instant_model(Path({model!r}))
"""


@dataclass(frozen=True)
class Served:
    """What is to be served. parameters: entries of config.pbtxt that differ; instant: without networks."""

    checkpoint: Path
    instant: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Addresses:
    """Where the two servers listen: HOST:PORT of gRPC, the URL of the WebSocket, and that of Triton's metrics.

    triton_metrics: empty where the servers are not ours.
    """

    triton: str
    websocket: str
    triton_metrics: str = ""


@contextlib.asynccontextmanager
async def servers(served: Served, workspace: Path) -> AsyncGenerator[Addresses, None]:
    """Both servers, ready, until the block ends. Raises CommandFailed when one cannot be started or has ended."""
    http, grpc, metrics, port = free_ports(4)
    address = FrontendAddress(HOST, port)
    stack = Stack(
        StackPlan(
            installation=find_installation(workspace),
            repository=_repository(served, workspace),
            frontend=address,
            triton=TritonPorts(http, grpc, metrics),
            log=workspace / "triton.log",
            environment=_environment(served),
        )
    )
    ready = asyncio.Event()
    running = asyncio.create_task(stack.run(lambda description: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield Addresses(f"{HOST}:{grpc}", address.websocket_url, f"http://{HOST}:{metrics}/metrics")
    finally:
        waiting.cancel()
        running.cancel()
        await asyncio.wait({running})
        await stack.stop()


def _environment(served: Served) -> dict[str, str]:
    here = {
        "QWEN3_TTS_MODEL": str(served.checkpoint),
        "QWEN3_TTS_VOICES": str(VOICES),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return {**os.environ, **_OPEN_DOORS, **here, **served.environment}


def _repository(served: Served, workspace: Path) -> Path:
    if not served.instant and not served.parameters:
        return REPOSITORY
    folder = workspace / "model_repository" / MODEL
    folder.mkdir(parents=True)
    contract = CONTRACT.read_text(encoding="utf-8")
    (folder / "config.pbtxt").write_text(with_parameters(contract, served.parameters), encoding="utf-8")
    version = REPOSITORY / MODEL / "1"
    if served.instant:
        (folder / "1").mkdir()
        code = _INSTANT_MODEL.format(engine=str(version), root=str(ROOT), model=str(version / "model.py"))
        (folder / "1" / "model.py").write_text(code, encoding="utf-8")
    else:
        (folder / "1").symlink_to(version, target_is_directory=True)
    return folder.parent


def with_parameters(contract: str, parameters: Mapping[str, str]) -> str:
    """A config.pbtxt with other values for some of its parameters. Raises ValueError for one it does not have."""
    for key, value in parameters.items():
        entry = re.compile(rf'(key: "{re.escape(key)}"\s+value: {{ string_value: )"[^"]*"')
        contract, found = entry.subn(rf'\g<1>"{value}"', contract)
        if found != 1:
            raise ValueError(f"config.pbtxt has no parameter {key!r}")
    return contract
