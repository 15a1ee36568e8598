"""A child process with everything it starts: one process group that is started, stopped and killed as a whole.

It does not outlive us, even where we are killed. Linux only: who belongs to the group is read from /proc. Does not know
what the process is for.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

_BOUND = Path(__file__).with_name("bound.py")


class ProcessGroup:
    """A running process that leads a group of its own, so that a Ctrl-C in the terminal reaches only us."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, command: Sequence[str | Path], environment: Mapping[str, str], log: Path | None = None
    ) -> Self:
        """The started process; its output goes to our own, or into the file `log`, which is emptied first."""
        bound = (sys.executable, "-I", "-S", _BOUND, str(os.getpid()), *command)
        begin = partial(asyncio.create_subprocess_exec, *bound, env=environment, process_group=0)
        if log is None:
            return cls(await begin())
        with log.open("wb") as output:
            return cls(await begin(stdout=output, stderr=asyncio.subprocess.STDOUT))

    @property
    def leader(self) -> int:
        return self._process.pid

    async def ended(self) -> int:
        """The exit status of the leader, when it has one; negative when a signal ended it."""
        return await self._process.wait()

    def members(self) -> list[int]:
        """The living processes of the group, the leader among them."""
        everyone = map(int, filter(str.isdigit, os.listdir("/proc")))
        return [pid for pid in everyone if _group(pid) == self.leader]

    async def stop(self, patience: float) -> None:
        """Asks the leader to end; when it has, or after `patience` seconds, kills what is left of the group."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._process.wait()
        self.kill()
        await self._process.wait()
        # The kernel tells nobody when a process ends that is not a child of ours.
        while self.members():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        """Ends every process of the group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.leader, signal.SIGKILL)


def _group(pid: int) -> int | None:
    """The process group of a living process; None when it is gone, or dead and only not yet waited for."""
    try:
        # The name, in brackets, may hold anything; the fields behind it are state, parent, group.
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(group)
