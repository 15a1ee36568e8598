"""The sessions of this process, so that a shutdown can wait for them and then end them. It knows no signals."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from frontend.connection import DRAINED


class Session(Protocol):
    """An open socket, whatever protocol it speaks."""

    def drain(self) -> None: ...
    async def idle(self) -> None: ...
    def end(self, code: int, reason: str) -> None: ...


class SessionRegistry:
    """Open sessions, and whether the server still takes work. Belongs to one event loop."""

    def __init__(self) -> None:
        self._sessions: set[Session] = set()
        self._changed = asyncio.Event()
        self._last_words: str | None = None
        self.draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    @contextmanager
    def tracked(self, session: Session) -> Iterator[None]:
        """Counts the session as open within the block."""
        self._sessions.add(session)
        if self.draining:
            session.drain()
        if self._last_words is not None:
            session.end(DRAINED, self._last_words)
        try:
            yield
        finally:
            self._sessions.discard(session)
            self._changed.set()

    def start_draining(self) -> None:
        """From now on every session refuses new utterances; running and waiting ones go on."""
        self.draining = True
        for session in self._sessions:
            session.drain()

    async def all_idle(self) -> None:
        """Returns when every session has spoken all it accepted, or is closed. Only while draining."""
        for session in tuple(self._sessions):
            await session.idle()

    async def close_all(self, reason: str) -> None:
        """Ends every session with close code 1001 and returns when none is open."""
        self._last_words = reason
        for session in self._sessions:
            session.end(DRAINED, reason)
        await self.all_closed()

    async def all_closed(self) -> None:
        """Returns when no session is open."""
        while self._sessions:
            self._changed.clear()
            await self._changed.wait()
