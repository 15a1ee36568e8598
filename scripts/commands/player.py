"""Sound out of the loudspeaker by whatever player this machine has. Knows nothing of where the sound comes from."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

from commands import CommandFailed


def _players(sample_rate: int) -> dict[str, list[str]]:
    rate = str(sample_rate)
    return {
        "paplay": ["--raw", "--format=s16le", f"--rate={rate}", "--channels=1"],
        "aplay": ["-q", "-t", "raw", "-f", "S16_LE", "-r", rate, "-c", "1", "-"],
        "ffplay": ["-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", rate, "-i", "-"],
        "play": ["-q", "-t", "raw", "-r", rate, "-e", "signed", "-b", "16", "-c", "1", "-"],
    }


class Player:
    """A running player process, fed as fast as it plays without making the giver wait."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._feeding = asyncio.create_task(self._feed())

    @classmethod
    @asynccontextmanager
    async def start(cls, sample_rate: int) -> AsyncGenerator[Self, None]:
        """The first player found, for int16 mono; ended with the block. Raises CommandFailed if there is none."""
        players = _players(sample_rate)
        name = next((name for name in players if shutil.which(name)), None)
        if name is None:
            known = ", ".join(players)
            raise CommandFailed(f"playing needs one of {known}, and none is installed; --out FILE writes a WAV")
        process = await asyncio.create_subprocess_exec(name, *players[name], stdin=asyncio.subprocess.PIPE)
        player = cls(name, process)
        try:
            yield player
        finally:
            player._feeding.cancel()
            if process.returncode is None:
                process.kill()
            await process.wait()

    def play(self, pcm: bytes) -> None:
        """Adds sound behind what is still to be played."""
        self._queue.put_nowait(pcm)

    async def finish(self) -> None:
        """Returns when all has been played. Raises CommandFailed if the player failed."""
        self._queue.put_nowait(None)
        await self._feeding
        if await self._process.wait() != 0:
            raise CommandFailed(f"{self._name} ended with status {self._process.returncode}")

    async def _feed(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            while (pcm := await self._queue.get()) is not None:
                pipe.write(pcm)
                await pipe.drain()
            pipe.close()
            await pipe.wait_closed()
        except (BrokenPipeError, ConnectionResetError):
            return  # finish() reports the player's own status
