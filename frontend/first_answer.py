"""A question asked again, beside the asking before, until one is answered: behind a balancer another server may get it.

A server that hangs keeps what it was asked, and counts as the busier for it. It knows neither servers nor questions.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")

EVERY_S = 0.15


async def first_answer(ask: Callable[[float], Coroutine[Any, Any, Answer]], within_s: float) -> Answer:
    """What the first of the askings returns that begin EVERY_S after each other within `within_s`.

    ask: is given the seconds that are left, and keeps to them. When all that were begun have failed, raises what the
    last to fail did; of several at once, the last begun.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    begun = [asyncio.create_task(ask(within_s))]
    asking = set(begun)
    try:
        while True:
            due_in_s = len(begun) * EVERY_S
            wait_s = None if due_in_s >= within_s else max(0.0, began + due_in_s - loop.time())
            over, asking = await asyncio.wait(asking, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            for task in over:
                if task.exception() is None:
                    return task.result()
            if not asking:
                return next(task for task in reversed(begun) if task in over).result()
            if not over:
                begun.append(asyncio.create_task(ask(began + within_s - loop.time())))
                asking.add(begun[-1])
    finally:
        for task in asking:
            task.cancel()
