"""The frontend as a child process: its environment, start, end, and whether it calls itself ready.

Knows only its command, its settings' names and GET /readyz.
"""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from commands import CommandFailed
from commands.process_group import ProcessGroup

# Longer than the frontend lets running utterances finish after SIGTERM.
STOP_PATIENCE = 30
COMMAND = [sys.executable, "-P", "-m", "frontend"]
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class FrontendAddress:
    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """A host that a client on this machine can connect to; "every interface" is none."""
        return EVERYWHERE.get(self.host, self.host)

    @property
    def websocket_url(self) -> str:
        host = f"[{self.reachable_host}]" if ":" in self.reachable_host else self.reachable_host
        return f"ws://{host}:{self.port}/api/v1/speak"


def require_usable_settings(address: FrontendAddress, environment: Mapping[str, str]) -> None:
    """Asks the frontend whether it would start, before minutes are spent on a model. Raises CommandFailed."""
    settings = {**environment, **_settings(address)}
    asked = subprocess.run([*COMMAND, "--check"], env=settings, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise CommandFailed(asked.stderr.strip() or f"the frontend cannot start: status {asked.returncode}")


def _settings(address: FrontendAddress) -> dict[str, str]:
    return {"FRONTEND_HOST": address.host, "FRONTEND_PORT": str(address.port)}


class FrontendServer:
    """A running frontend."""

    def __init__(self, process: ProcessGroup, address: FrontendAddress) -> None:
        self._process = process
        self._address = address

    @classmethod
    async def start(cls, address: FrontendAddress, triton_url: str, environment: Mapping[str, str]) -> Self:
        """The started frontend, which may not listen yet."""
        settings = {**environment, **_settings(address), "FRONTEND_TRITON_URL": triton_url}
        return cls(await ProcessGroup.start(COMMAND, settings), address)

    async def ended(self) -> int:
        """The exit status of the frontend, once it has ended."""
        return await self._process.ended()

    async def stop(self) -> None:
        """Lets the frontend finish what it speaks, within its own limit, and end."""
        await self._process.stop(STOP_PATIENCE)

    def kill(self) -> None:
        """Ends the frontend at once; stop() still has to follow."""
        self._process.kill()

    async def is_ready(self) -> bool:
        """Whether GET /readyz answers 200."""
        try:
            reader, writer = await asyncio.open_connection(self._address.reachable_host, self._address.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status_line = await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()
        return status_line.split()[1:2] == [b"200"]
