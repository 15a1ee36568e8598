"""Which accepted requests of one socket are being spoken, and which wait for their turn.

In queue mode one at a time, in order; concurrent ones beside them, up to a limit. It knows nothing of messages.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from frontend.spoken import Spoken


class Dispatcher:
    """The live requests of one socket. `ended` is called for each once, when its task is over and its slot free."""

    def __init__(self, serve: Callable[[Spoken], Coroutine[Any, Any, None]], ended: Callable[[Spoken], None]) -> None:
        self._serve = serve
        self._ended = ended
        self._group: asyncio.TaskGroup | None = None
        self._live: dict[str, Spoken] = {}
        self._waiting: list[Spoken] = []
        self._active: set[Spoken] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.max_active = 1

    def begin(self, group: asyncio.TaskGroup) -> None:
        """The tasks of all requests will belong to the group; what it ends without `ended` stays live."""
        self._group = group

    def close(self) -> None:
        """Forgets all requests, whose tasks are over."""
        for spoken in self._live.values():
            spoken.task = None
        self._live.clear()
        self._active.clear()
        self._group = None  # it holds the task of the socket, whose end may hold this
        self._idle.set()

    async def idle(self) -> None:
        """Returns when there is no request."""
        await self._idle.wait()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Spoken]:
        return iter(tuple(self._live.values()))

    def find(self, request_id: str) -> Spoken | None:
        """The live request of that id."""
        return self._live.get(request_id)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    def position(self, mode: str) -> int:
        """The place in line that a request would get now; 0 when only requests that are ending stand before it."""
        rivals = [spoken for spoken in self._waiting if (spoken.speak.wishes.mode == mode) or mode != "concurrent"]
        active = [spoken for spoken in self._active if not spoken.cancelled]
        if mode == "interrupt" or (not rivals and self._fits(mode, active)):
            return 0
        return len(self._waiting) + 1

    def submit(self, spoken: Spoken) -> None:
        """Begins to speak it when its turn has come."""
        self._live[spoken.request_id] = spoken
        self._idle.clear()
        self._waiting.append(spoken)
        self._advance()

    def cancel(self, spoken: Spoken, reason: str) -> None:
        """Ends it; one that waits has ended at once."""
        if not spoken.cancel(reason):
            return
        if spoken in self._waiting:
            self._waiting.remove(spoken)
            self._retire(spoken)

    def _fits(self, mode: str, active: list[Spoken]) -> bool:
        if len(active) >= self.max_active:
            return False
        return mode == "concurrent" or all(spoken.speak.wishes.mode == "concurrent" for spoken in active)

    def _advance(self) -> None:
        assert self._group is not None, "requests come from the tasks of the group"
        for spoken in tuple(self._waiting):
            if self._fits(spoken.speak.wishes.mode, list(self._active)):
                self._waiting.remove(spoken)
                self._active.add(spoken)
                with spoken.traced():
                    spoken.task = self._group.create_task(self._serve(spoken))
                self._group.create_task(self._watch(spoken, spoken.task))

    async def _watch(self, spoken: Spoken, task: asyncio.Task[None]) -> None:
        await asyncio.wait({task})
        spoken.task = None  # a cancelled task holds its frames, and they hold `spoken`: only a search would find them
        self._active.remove(spoken)
        self._retire(spoken)
        self._advance()

    def _retire(self, spoken: Spoken) -> None:
        del self._live[spoken.request_id]
        self._ended(spoken)
        if not self._live:
            self._idle.set()
