"""How far a download is: one line that rewrites itself on a terminal, a plain line now and then anywhere else."""

import time
from collections.abc import Callable
from typing import TextIO

TERMINAL_PERIOD_S = 0.2
LOG_PERIOD_S = 10.0


class Progress:
    """Counts bytes and tells them. `clock` gives seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._rewrites = stream.isatty()
        self._period = TERMINAL_PERIOD_S if self._rewrites else LOG_PERIOD_S
        self._total = self._have = self._received = 0
        self._began = self._told = clock()

    def begin(self, total: int, have: int) -> None:
        """Start counting towards `total` bytes, of which `have` were there before."""
        self._total, self._have, self._received = total, have, 0
        self._began = self._told = self._clock()

    def arrived(self, count: int) -> None:
        """Bytes that have come, or, negative, that must come again."""
        self._have += count
        self._received += max(count, 0)
        if self._clock() - self._told >= self._period:
            self._told = self._clock()
            self._write(self.describe())

    def say(self, line: str) -> None:
        """A line that stays."""
        self._stream.write(f"\r\x1b[K{line}\n" if self._rewrites else f"{line}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave what was told last on its own line."""
        self.say(self.describe())

    def describe(self) -> str:
        """How much, how fast, and how long it will take at that pace."""
        share = 100 * self._have // self._total if self._total else 100
        elapsed = self._clock() - self._began
        rate = self._received / elapsed if elapsed > 0 else 0.0
        left = f", {_duration((self._total - self._have) / rate)} left" if rate and self._have < self._total else ""
        return f"{readable(self._have)} of {readable(self._total)} ({share} %), {readable(rate)}/s{left}"

    def _write(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._rewrites else f"{line}\n")
        self._stream.flush()


def readable(count: float) -> str:
    """Bytes in the largest decimal unit that leaves a digit before the point."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
