"""The sessions of this process, so that a shutdown can wait for them and then end them. It knows no signals."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from frontend.session import Session

DRAINED = 1001


class SessionRegistry:
    """Open sessions, and whether the server still takes work. Belongs to one event loop."""

    def __init__(self) -> None:
        self._sessions: set[Session] = set()
        self._changed = asyncio.Event()
        self.draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    @contextmanager
    def tracked(self, session: Session) -> Iterator[None]:
        """Counts the session as open within the block."""
        self._sessions.add(session)
        session.draining = self.draining
        try:
            yield
        finally:
            self._sessions.discard(session)
            self._changed.set()

    def start_draining(self) -> None:
        """From now on every session refuses new utterances; running and waiting ones go on."""
        self.draining = True
        for session in self._sessions:
            session.draining = True

    async def all_idle(self) -> None:
        """Returns when every session has spoken all it accepted, or is closed. Only while draining."""
        for session in tuple(self._sessions):
            await session.idle()

    async def close_all(self, reason: str) -> None:
        """Ends every session with close code 1001 and returns when none is open."""
        for session in self._sessions:
            session.end(DRAINED, reason)
        await self.all_closed()

    async def all_closed(self) -> None:
        """Returns when no session is open."""
        while self._sessions:
            self._changed.clear()
            await self._changed.wait()
