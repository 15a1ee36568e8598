"""What bounds the life of a socket in every protocol: messages a second, idleness, age, and who else may end it.

It knows neither the web framework nor any message, nor what is spoken.
"""

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import NoReturn

from frontend.connection import DEFECT, FAREWELL_S, IDLE, TOO_LONG, EndSession
from frontend.rate_limit import TokenBucket
from frontend.settings import Settings

log = logging.getLogger(__name__)


class SocketLife:
    """One socket's, from its accept on. Belongs to one event loop, whose clock its times are of."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        now = self.now()
        self._began = self._active_at = now
        self._messages = TokenBucket(settings.message_rate_per_s, settings.message_burst, now)
        self._flood = TokenBucket(settings.flood_rate_per_s, settings.flood_rate_per_s, now)
        self._ending: asyncio.Future[EndSession] = asyncio.get_running_loop().create_future()

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    def touch(self) -> float:
        """Something happens on the socket now, so it is not idle; the time."""
        self._active_at = self.now()
        return self._active_at

    def flooded(self, now: float) -> str | None:
        """Why one more message, whatever it says, is more than a socket may send; None when it is not."""
        if self._flood.take(now):
            return None
        return f"more than {self._settings.flood_rate_per_s:g} messages per second"

    def refused(self, now: float) -> str | None:
        """Why one more message that asks for work must be refused; None when it need not."""
        if self._messages.take(now):
            return None
        limit = f"{self._settings.message_rate_per_s:g} per second, {self._settings.message_burst} at once"
        return f"too many messages, the limit is {limit}"

    def refused_for_s(self, now: float) -> float:
        """Seconds until a message that asks for work is taken again."""
        return self._messages.wait_s(now)

    @property
    def is_ending(self) -> bool:
        return self._ending.done()

    def end(self, code: int, reason: str) -> bool:
        """Asks for the end; false when it has been asked for already, and what was said first holds."""
        if self.is_ending:
            return False
        self._ending.set_result(EndSession(code, reason))
        return True

    async def expire(
        self,
        busy: Callable[[], object],
        dismiss: Callable[[EndSession], None],
        idle: Callable[[], Awaitable[None]],
    ) -> NoReturn:
        """Raises the end when it is asked for, or when the socket is idle or older than it may be.

        busy: whether something is spoken, which is not being idle. dismiss: cancels that, and says why. What is still
        to be written then is, if that takes no longer than FAREWELL_S; `idle` returns when it is.
        """
        while not self.is_ending:
            now = self.now()
            session_end = self._began + self._settings.max_session_s
            idle_end = (now if busy() else self._active_at) + self._settings.idle_timeout_s
            if now >= session_end:
                self.end(TOO_LONG, f"the session is older than {self._settings.max_session_s:g} s")
            elif now >= idle_end:
                self.end(IDLE, f"idle for {self._settings.idle_timeout_s:g} s")
            else:
                await asyncio.wait({self._ending}, timeout=min(idle_end, session_end) - now)
        dismiss(self._ending.result())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await idle()
        raise self._ending.result()


async def until_the_end(session_id: str, begin: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> EndSession:
    """Runs the tasks of a socket, which `begin` starts, until one of them raises its end; all are over then."""
    ending: EndSession | None = None
    try:
        await _run(begin)
    except* EndSession as ended:
        first = ended.exceptions[0]
        assert isinstance(first, EndSession)
        ending = first
    except* Exception:  # the root of this socket: a defect ends it, not the server
        log.exception("session failed session=%s", session_id)
        ending = EndSession(DEFECT, "internal error")
    assert ending is not None, "a session's tasks never return"
    return ending


async def _run(begin: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    group = asyncio.TaskGroup()
    try:
        async with group:
            await begin(group)
    except asyncio.CancelledError as cancelled:
        # Until Python 3.13 the frame of a task group keeps what cancelled it, and that keeps the frame.
        traceback.clear_frames(cancelled.__traceback__)
        raise
    finally:
        # What ends a task keeps this frame, and the group keeps the task: only a search for garbage would find them.
        del group
