"""A tritonserver process that serves our model repository: its command line, start, and end without remains.

Starts with no model loaded (see model_control.py), so that its ports answer at once and a load that fails
can be told from a server that fails.
"""

import os
import signal
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from commands.process_group import ProcessGroup
from commands.tracing import trace_options
from commands.triton_installation import STUB, TritonInstallation

# Time for requests in flight when the server is to end; streams of a dead stub never do, so it is short.
EXIT_TIMEOUT = 3
# The server unloads the model after its exit timeout has begun, in steps of a second; then it is killed.
STOP_PATIENCE = EXIT_TIMEOUT + 5
SHARED_MEMORY = Path("/dev/shm")
# Control over models carries no authentication, so the server listens to this machine only.
HOST = "127.0.0.1"


@dataclass(frozen=True)
class TritonPorts:
    http: int
    grpc: int
    metrics: int


class TritonServer:
    """A running tritonserver. Its shared memory carries a prefix of its own, and only that is cleaned away."""

    def __init__(self, process: ProcessGroup, shared_memory_prefix: str) -> None:
        self._process = process
        self._shared_memory_prefix = shared_memory_prefix

    @classmethod
    async def start(
        cls,
        installation: TritonInstallation,
        repository: Path,
        ports: TritonPorts,
        environment: Mapping[str, str],
        log: Path,
    ) -> Self:
        """The started server, which may not answer yet."""
        prefix = f"qwen3_tts_{uuid.uuid4().hex[:12]}_"
        command = server_command(installation, repository, ports, prefix) + trace_options(environment)
        process = await ProcessGroup.start(command, installation.environment(environment), log)
        return cls(process, prefix)

    async def ended(self) -> int:
        """The exit status of the server, once it has ended."""
        return await self._process.ended()

    async def stop(self) -> None:
        """Ends the server with its stubs, and removes the shared memory they leave behind."""
        await self._process.stop(STOP_PATIENCE)
        _remove_files(SHARED_MEMORY, self._shared_memory_prefix)

    def kill(self) -> None:
        """Ends the server and its stubs at once; stop() still has to follow."""
        self._process.kill()

    def kill_stubs(self) -> None:
        """Ends the model's processes, dead or hung, so that the memory of the device is free for new ones."""
        for pid in self._process.members():
            if pid != self._process.leader and _is_stub(pid):
                os.kill(pid, signal.SIGKILL)


def server_command(
    installation: TritonInstallation, repository: Path, ports: TritonPorts, shared_memory_prefix: str
) -> list[str]:
    """The command line of the server."""
    return [
        str(installation.binary),
        f"--model-repository={repository}",
        f"--backend-directory={installation.backends}",
        "--model-control-mode=explicit",
        # Without it model.py would be imported once more in a throw-away process; config.pbtxt is complete.
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={EXIT_TIMEOUT}",
        f"--http-address={HOST}",
        f"--http-port={ports.http}",
        f"--grpc-address={HOST}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={HOST}",
        f"--metrics-port={ports.metrics}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
    ]


def _remove_files(folder: Path, prefix: str) -> None:
    for file in folder.glob(f"{prefix}*"):
        file.unlink(missing_ok=True)


def _is_stub(pid: int) -> bool:
    try:
        return STUB in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
