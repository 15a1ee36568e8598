"""What a crowd of clients has done and met, and what a client of it is given. Knows no protocol and no figures."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.serving_texts import sentences


class Unexpected(Exception):
    """The servers did what is not documented for what was done to them; the message says what."""


@dataclass
class Tally:
    """Counts by kind: utterances asked for, how they ended, cancels, lost sockets, mistakes made on purpose.

    unexpected: behaviour and what it met, as often as that happened.
    """

    counts: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)

    @property
    def utterances(self) -> int:
        """How many were asked for, however they ended."""
        return self.counts["utterances"]


@dataclass(frozen=True)
class Places:
    """Where the servers are knocked at. http: scheme and host of the frontend; key: that of an admin."""

    websocket: str
    http: str
    triton: str
    key: str


@dataclass(frozen=True)
class Visit:
    """What one client has for one visit: where to go, what to draw from, where to count."""

    places: Places
    drawn: random.Random
    tally: Tally

    def count(self, kind: str, times: int = 1) -> None:
        """Counts what was done or met."""
        self.tally.counts[kind] += times

    def text(self, most: int = 1) -> str:
        """One to `most` English sentences."""
        return " ".join(self.drawn.choices(sentences(), k=self.drawn.randint(1, most)))
