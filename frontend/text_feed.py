"""The text of one request on its way from the client to the model, while it is being written.

The socket's side appends, flushes and ends; the speaking side takes. It knows neither messages nor models.
"""

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class FlushPoint:
    """Here the client wants everything before to be spoken to its end; `id` counts from 1."""

    id: int


@dataclass(frozen=True)
class _EndPoint:
    """Here the text ends."""


Part = str | FlushPoint | _EndPoint


class TextFeed:
    """Text, flushes and the end, in the order they came. For one taker; belongs to one event loop."""

    def __init__(self, text: str) -> None:
        self.text = ""
        self.complete = False
        self.flushes = 0
        self._parts: deque[Part] = deque()
        self._filled = asyncio.Event()
        self._taken = 0
        self.append(text)

    @property
    def waiting_flushes(self) -> int:
        """Flushes that were not taken yet."""
        return sum(isinstance(part, FlushPoint) for part in self._parts)

    def append(self, text: str) -> None:
        """More text, to be spoken as if it had stood there from the beginning."""
        self.text += text
        if text:
            self._add(text)

    def flush(self) -> None:
        self.flushes += 1
        self._add(FlushPoint(self.flushes))

    def end(self) -> None:
        self.complete = True
        self._add(_EndPoint())

    async def opening(self) -> str | FlushPoint | None:
        """What comes next: a text that is not blank, a flush with nothing to speak before it, or None for the end."""
        text = ""
        while not text.strip():
            await self.filled()
            part = self.take()
            if isinstance(part, FlushPoint):
                return part
            if isinstance(part, _EndPoint):
                return None
            text += part
        return text

    @property
    def taken(self) -> int:
        """Characters taken so far, counted in the whole text."""
        return self._taken

    def rest(self) -> "Rest":
        """The text that follows an opening, up to the next flush or the end."""
        return Rest(self)

    async def filled(self) -> None:
        """Returns when something can be taken."""
        while not self._parts:
            self._filled.clear()
            await self._filled.wait()

    def take(self) -> Part:
        """The next part, which must be there; text that has gathered is one: fewer requests to the model."""
        part = self._parts.popleft()
        if isinstance(part, str):
            while self._parts and isinstance(self._parts[0], str):
                part += str(self._parts.popleft())
            self._taken += len(part)
        return part

    def _add(self, part: Part) -> None:
        self._parts.append(part)
        self._filled.set()


class Rest:
    """The text behind an opening as it comes; afterwards `flush` tells whether a flush ended it, not the end."""

    def __init__(self, feed: TextFeed) -> None:
        self._feed = feed
        self._closed = False
        self.said = ""
        self.over = False
        self.flush: FlushPoint | None = None

    def __aiter__(self) -> "Rest":
        return self

    async def __anext__(self) -> str:
        if not self.over and not self._closed:
            await self._feed.filled()
        # Whoever waited here when it was closed must take nothing any more.
        if self.over or self._closed:
            raise StopAsyncIteration
        part = self._feed.take()
        if isinstance(part, str):
            self.said += part
            return part
        self.over = True
        self.flush = part if isinstance(part, FlushPoint) else None
        raise StopAsyncIteration

    def again(self) -> "Rest":
        """Goes on where this one has come to, and closes it: what it has `said` must be said anew."""
        self._closed = True
        rest = Rest(self._feed)
        rest.over, rest.flush = self.over, self.flush
        return rest
