"""The requests of one v2 socket, without the socket: who is taken, in which place, with which stream, and told what."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from frontend.dispatcher import Dispatcher
from frontend.lanes import Lanes
from frontend.messages_v2 import Speak, Wishes
from frontend.requests_v2 import MAX_WAITING_FLUSHES, Refused, Requests
from frontend.settings import Settings
from frontend.spoken import Mark, Spoken


class Desk:
    """Takes requests; each is spoken until `done` names it, and a cancelled one holds its slot until `freed`."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.lanes = Lanes(100)
        self.freed = asyncio.Event()
        self.ended: list[str] = []
        self._done: dict[str, asyncio.Event] = {}
        self._over: dict[str, asyncio.Event] = {}
        self.dispatcher = Dispatcher(self._serve, self._note)
        self.requests = Requests(
            self.dispatcher, self.lanes, Settings(), lambda text: self.said.append(json.loads(text)), None
        )

    async def _serve(self, spoken: Spoken) -> None:
        try:
            await self._done.setdefault(spoken.request_id, asyncio.Event()).wait()
        except asyncio.CancelledError:
            await self.freed.wait()
            raise

    def speak(self, name: str, *, mode: str = "queue", final: bool = True) -> Spoken:
        self.requests.speak(Speak(name, "Hello.", final, Wishes(mode=mode)), 0.0)
        found = self.dispatcher.find(name)
        assert found is not None
        return found

    def _note(self, spoken: Spoken) -> None:
        self.ended.append(spoken.request_id)
        self._over.setdefault(spoken.request_id, asyncio.Event()).set()

    async def finish(self, name: str) -> None:
        self._done.setdefault(name, asyncio.Event()).set()
        await asyncio.wait_for(self._over.setdefault(name, asyncio.Event()).wait(), 5)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    async with asyncio.TaskGroup() as group:
        made.dispatcher.begin(group)
        yield made
        made.freed.set()
        made.requests.cancel_all("cancelled")


async def test_one_who_comes_behind_a_request_that_is_ending_is_not_told_that_he_waits(desk: Desk) -> None:
    desk.speak("a")
    await asyncio.sleep(0)  # it is being spoken
    desk.requests.cancel("a", None)
    desk.speak("b")
    assert desk.said == []
    desk.speak("c")
    assert desk.said == [{"type": "queued", "request_id": "c", "position": 2}]
    assert desk.ended == [], "the slot is not free yet"


async def test_text_for_a_request_that_is_ending_is_refused_and_says_why(desk: Desk) -> None:
    desk.speak("a", final=False)
    await asyncio.sleep(0)
    desk.requests.cancel("a", None)
    for late in (lambda: desk.requests.append("a", "more"), lambda: desk.requests.flush("a")):
        with pytest.raises(Refused, match="this request is ending: cancelled") as refusal:
            late()
        assert (refusal.value.code, refusal.value.request_id) == ("UNKNOWN_REQUEST", "a")


async def test_so_many_flushes_of_a_request_may_wait(desk: Desk) -> None:
    desk.speak("a", final=False)
    for _ in range(MAX_WAITING_FLUSHES):
        desk.requests.flush("a")
    with pytest.raises(Refused, match="64 flushes of the request wait, which is the limit") as refusal:
        desk.requests.flush("a")
    assert refusal.value.code == "TOO_MANY_REQUESTS"


async def test_a_stream_that_is_under_way_keeps_its_number_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontend.requests_v2.MAX_STREAM_ID", 3)
    desk = Desk()
    async with asyncio.TaskGroup() as group:
        desk.dispatcher.begin(group)
        desk.requests.frame("tagged")
        streams = [desk.speak("long", mode="concurrent").stream_id]
        for number in range(4):
            streams.append(desk.speak(f"u{number}", mode="concurrent").stream_id)
            await desk.finish(f"u{number}")
        await desk.finish("long")
    assert streams == [1, 2, 3, 2, 3]


async def test_of_what_a_listener_says_he_has_played_only_what_was_sent_counts(desk: Desk) -> None:
    spoken = desk.speak("a")
    await asyncio.sleep(0)
    spoken.marks += [Mark(0, 3, 0), Mark(3, 6, 4_800)]
    spoken.samples = 4_800
    desk.requests.cancel("a", 60_000)
    assert json.loads(spoken.terminal()[-1])["spoken_text"] == "Hel"


async def test_a_cancel_takes_back_what_was_not_written(desk: Desk) -> None:
    spoken = desk.speak("a")
    await spoken.lane.put_audio(0.1, spoken.audio(b"sound", 2_400))
    assert spoken.cancel("cancelled")
    assert not spoken.lane.filled
    assert not spoken.cancel("preempted"), "a second would interrupt the freeing of the slot"
    assert spoken.reason == "cancelled"
