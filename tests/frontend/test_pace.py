"""When audio may go, on a loop that leaps to its next moment instead of waiting for it."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from frontend.pace import Pace

AHEAD_S, PACKET_S = 1.0, 0.3


class LeapingSelector(selectors.SelectSelector):
    """Passes the time it should wait at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing would ever happen again"
        self.now += max(0.0, timeout)
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaps = LeapingSelector()
        super().__init__(self._leaps)

    def time(self) -> float:
        return self._leaps.now


def on_leaping_loop(scene: Callable[[Pace, asyncio.Event], Awaitable[Any]]) -> Any:
    async def played() -> Any:
        hurry = asyncio.Event()
        return await scene(Pace(AHEAD_S, hurry), hurry)

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(played())


async def sent_at(pace: Pace, count: int) -> list[float]:
    """When each of so many packets may go, in seconds from now."""
    loop = asyncio.get_running_loop()
    began, times = loop.time(), []
    for _ in range(count):
        await pace.wait(PACKET_S)
        times.append(loop.time() - began)
    return times


def test_audio_goes_at_once_while_little_of_it_is_not_due_and_then_as_it_is_played() -> None:
    async def scene(pace: Pace, hurry: asyncio.Event) -> list[float]:
        return await sent_at(pace, 6)

    assert on_leaping_loop(scene) == pytest.approx([0, 0, 0, 0.2, 0.5, 0.8], abs=0.01)


def test_audio_that_was_late_is_not_caught_up() -> None:
    async def scene(pace: Pace, hurry: asyncio.Event) -> list[float]:
        await sent_at(pace, 5)
        await asyncio.sleep(60.0)
        return await sent_at(pace, 5)

    assert on_leaping_loop(scene) == pytest.approx([0, 0, 0, 0.2, 0.5], abs=0.01)


def test_in_a_hurry_nothing_waits_not_even_what_waits_already() -> None:
    async def scene(pace: Pace, hurry: asyncio.Event) -> list[float]:
        asyncio.get_running_loop().call_later(0.3, hurry.set)
        return await sent_at(pace, 8)

    assert on_leaping_loop(scene) == pytest.approx([0, 0, 0, 0.2, 0.3, 0.3, 0.3, 0.3], abs=0.01)
