"""A question asked again and again, beside the asking before, until one is answered."""

import asyncio

import pytest

from frontend.errors import NotReady
from frontend.first_answer import EVERY_S, first_answer


class Asked:
    """Notes its askings; each waits until the test answers it, or fails it."""

    def __init__(self) -> None:
        self.left_s: list[float] = []
        self.answers: list[asyncio.Future[str]] = []
        self.given_up: list[int] = []
        self.more = asyncio.Event()

    async def ask(self, left_s: float) -> str:
        number = len(self.answers)
        self.left_s.append(left_s)
        self.answers.append(asyncio.get_running_loop().create_future())
        self.more.set()
        try:
            return await self.answers[number]
        except asyncio.CancelledError:
            self.given_up.append(number)
            raise

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.answers) < count:
                self.more.clear()
                await self.more.wait()


async def test_whoever_answers_first_is_heard_and_the_others_are_given_up() -> None:
    asked = Asked()
    answer = asyncio.create_task(first_answer(asked.ask, 30.0))
    await asked.until(3)
    asked.answers[1].set_result("second")
    assert await asyncio.wait_for(answer, 5) == "second"
    await asyncio.sleep(0)
    assert sorted(asked.given_up) == [0, 2]
    assert asked.left_s[0] == 30.0
    assert asked.left_s[2] <= 30.0 - 2 * EVERY_S + 1e-3


async def test_a_failure_is_told_when_nobody_is_left_who_might_answer() -> None:
    asked = Asked()
    answer = asyncio.create_task(first_answer(asked.ask, 30.0))
    await asked.until(2)
    asked.answers[0].set_exception(NotReady("first"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not answer.done()
    for number in range(1, len(asked.answers)):
        asked.answers[number].set_exception(NotReady("last"))
    with pytest.raises(NotReady, match="last"):
        await asyncio.wait_for(answer, 5)


async def test_who_stops_asking_leaves_nobody_asking() -> None:
    asked = Asked()
    answer = asyncio.create_task(first_answer(asked.ask, 30.0))
    await asked.until(2)
    answer.cancel()
    await asyncio.wait({answer})
    await asyncio.sleep(0)
    assert sorted(asked.given_up) == list(range(len(asked.answers)))
