"""A stream of responses that is left to end by itself, and cancelled only when it does not.

The packaged Triton (2.51) crashes now and then when a stream is cancelled at the moment at which it sends on it or ends
it, so whoever wants no more tells the model instead, and what still comes is read and dropped. Knows no transport.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Response = TypeVar("Response")


class OpenStream(Generic[Response]):
    """Responses one after the other; for one reader at a time."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, Response | None]], cancel: Callable[[], object]) -> None:
        """read: the next response, None at the end; cancelled while it waits, it would cancel the stream."""
        self._read, self.cancel = read, cancel
        self._reading: asyncio.Task[Response | None] | None = None

    async def next(self) -> Response | None:
        """The next response, None at the end. Cancelling this cancels the waiting alone. Raises what `read` raises."""
        return (await self._read_one()).result()

    async def ends(self, within_s: float) -> bool:
        """Whether it ends, well or not, within so long; what still comes is dropped."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    read = await self._read_one()
                    if read.cancelled() or read.exception() is not None or read.result() is None:
                        return True
        except TimeoutError:
            return False

    async def _read_one(self) -> asyncio.Task[Response | None]:
        """The reading under way, or a new one, once it is over; whoever waits may be cancelled, it goes on."""
        reading = self._reading = self._reading or asyncio.create_task(self._read())
        await asyncio.wait({reading})
        self._reading = None
        return reading


def told_to_end() -> bool:
    """Whether the task that runs this is being cancelled. It is asked apart: the frames that a cancelled task keeps
    would keep the task, and only a search for garbage would find them.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
