"""The requests of live text: none before its utterance was taken in, none after its end, and nothing left of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from frontend.live_requests import growing
from tests.frontend.test_lanes import runs


class Writing:
    """Live text of which each piece comes when it is put, and how many pieces were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.accepted, self.ended = asyncio.Event(), asyncio.Event()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.requests = growing(
            {"utterance": "u", "text": "One", "voice": "v"}, self._more(), self.accepted, self.ended
        )

    async def _more(self) -> AsyncIterator[str]:
        while (piece := await self._pieces.get()) is not None:
            self.taken += 1
            yield piece

    def put(self, *pieces: str | None) -> None:
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def next(self) -> asyncio.Task[dict[str, Any] | None]:
        return asyncio.ensure_future(anext(self.requests, None))


@pytest.fixture
async def writing() -> Writing:
    """One whose first request has been made."""
    writing = Writing()
    assert await writing.next() == {"utterance": "u", "text": "One", "voice": "v", "text_complete": False}
    return writing


async def test_text_waits_until_its_utterance_was_taken_in_and_then_goes_as_it_comes(writing: Writing) -> None:
    writing.put(" two")
    request = writing.next()
    assert not await runs(request)
    assert writing.taken == 0
    writing.accepted.set()
    assert await request == {"utterance": "u", "text": " two", "text_complete": False}
    request = writing.next()
    assert not await runs(request)
    writing.put(" three", None)
    assert await request == {"utterance": "u", "text": " three", "text_complete": False}
    assert await writing.next() == {"utterance": "u", "text": "", "text_complete": True}
    assert await writing.next() is None


@pytest.mark.parametrize("accepted", [False, True])
async def test_once_it_has_ended_no_text_is_asked_for_and_no_task_is_left(writing: Writing, accepted: bool) -> None:
    before = asyncio.all_tasks()
    if accepted:
        writing.accepted.set()
    request = writing.next()
    assert not await runs(request)
    if not accepted:
        writing.put(" two")
    writing.ended.set()
    assert await request is None
    assert writing.taken == 0
    await runs(asyncio.ensure_future(asyncio.sleep(0)))
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("accepted", [False, True])
async def test_whoever_closes_it_leaves_no_task_behind(accepted: bool) -> None:
    before, writing = asyncio.all_tasks(), Writing()
    if accepted:
        writing.accepted.set()
        writing.put(" two")
    for _ in range(1 + accepted):
        await writing.next()
    await writing.requests.aclose()
    await runs(asyncio.ensure_future(asyncio.sleep(0)))
    assert asyncio.all_tasks() == before
