"""Ctrl-C as a wish to cancel. Knows nothing of what is cancelled."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any


@contextlib.contextmanager
def cancelled_by_interrupt(cancel: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Within the block the first Ctrl-C runs `cancel` and the second ends this process."""
    loop = asyncio.get_running_loop()
    cancelling: set[asyncio.Task[None]] = set()

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        cancelling.add(loop.create_task(cancel()))

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
