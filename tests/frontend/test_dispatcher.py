"""Whose turn it is among the requests of one socket, and which place in line one is told before it has it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from frontend.dispatcher import Dispatcher
from frontend.framing import Plain
from frontend.lanes import Lanes
from frontend.messages_v2 import Speak, Wishes
from frontend.spoken import Spoken
from frontend.text_feed import TextFeed
from tests.frontend.conftest import PATIENCE_S
from tests.frontend.test_lanes import runs


class Socket:
    """A dispatcher of requests that are spoken until they are told to end, and whom it has begun and ended."""

    def __init__(self, max_active: int = 2) -> None:
        self.dispatcher = Dispatcher(self._serve, lambda spoken: self.ended.append(spoken.request_id))
        self.dispatcher.max_active = max_active
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._lanes = Lanes(100)
        self._ends: dict[str, asyncio.Event] = {}
        self._freed = asyncio.Event()
        self._freed.set()

    async def _serve(self, spoken: Spoken) -> None:
        self.begun.append(spoken.request_id)
        try:
            await self._ends[spoken.request_id].wait()
        finally:
            await self._freed.wait()

    def submit(self, *modes: str) -> list[Spoken]:
        """Requests named by their mode and number: q1, c2, …"""
        submitted = []
        for mode in modes:
            name = f"{mode[0]}{len(self._ends) + 1}"
            self._ends[name] = asyncio.Event()
            speak = Speak(name, "Hello.", True, Wishes(mode=mode))
            submitted.append(Spoken(name, speak, 1, Plain(), self._lanes.lane(1.0), TextFeed("Hello."), 0.0))
            self.dispatcher.submit(submitted[-1])
        return submitted

    def end(self, name: str) -> None:
        self._ends[name].set()

    def hold(self) -> None:
        """From now on whoever is cancelled does not get away."""
        self._freed.clear()

    def free(self) -> None:
        self._freed.set()

    def positions(self) -> tuple[int, int]:
        """Of a queued request, and of a concurrent one."""
        return self.dispatcher.position("queue"), self.dispatcher.position("concurrent")


async def settled() -> None:
    """Returns when everything has gone on until it waits."""
    await runs(asyncio.create_task(asyncio.sleep(0)))


@pytest.fixture
async def socket() -> AsyncIterator[Socket]:
    socket = Socket()
    async with asyncio.TaskGroup() as group:
        socket.dispatcher.begin(group)
        yield socket
        socket.free()
        for spoken in socket.dispatcher:
            socket.dispatcher.cancel(spoken, "cancelled")


async def test_queued_ones_go_one_by_one_and_concurrent_ones_beside_them_while_there_is_room(socket: Socket) -> None:
    socket.submit("queue", "queue", "concurrent", "concurrent", "queue")
    await settled()
    assert socket.begun == ["q1", "c3"]
    socket.end("q1")
    await settled()
    assert socket.begun == ["q1", "c3", "q2"]
    socket.end("c3")
    await settled()
    assert socket.begun == ["q1", "c3", "q2", "c4"]
    socket.end("q2")
    await settled()
    assert socket.begun == ["q1", "c3", "q2", "c4", "q5"]
    assert socket.ended == ["q1", "c3", "q2"]


@pytest.mark.parametrize(
    ("before", "positions"),
    [
        ([], (0, 0)),
        (["queue"], (1, 0)),
        (["queue", "queue"], (2, 0)),  # concurrent ones go past those who queue
        (["concurrent"], (0, 0)),
        (["concurrent", "queue"], (1, 1)),
        (["queue", "concurrent", "queue"], (2, 2)),  # but there is one line
        (["queue", "concurrent", "concurrent"], (2, 2)),
    ],
)
async def test_the_place_one_is_told_is_the_place_one_gets(
    socket: Socket, before: list[str], positions: tuple[int, int]
) -> None:
    socket.submit(*before)
    assert socket.positions() == positions
    assert socket.dispatcher.position("interrupt") == 0
    (spoken,) = socket.submit("queue")
    await settled()
    assert (spoken.request_id in socket.begun) == (positions[0] == 0)


async def test_whoever_is_ending_is_not_in_the_way(socket: Socket) -> None:
    first, second = socket.submit("queue", "concurrent")
    await settled()
    socket.hold()
    socket.dispatcher.cancel(first, "cancelled")
    assert socket.positions() == (0, 0)
    socket.submit("concurrent")
    assert socket.positions() == (2, 2), "the one who waits for its place comes first"
    socket.dispatcher.cancel(second, "cancelled")
    await settled()
    assert socket.begun == ["q1", "c2"], "a slot is free when who had it has let go of it"
    socket.free()
    await settled()
    assert socket.begun == ["q1", "c2", "c3"]


async def test_one_who_leaves_the_line_ends_at_once_and_lets_nobody_in(socket: Socket) -> None:
    _, second, _ = socket.submit("queue", "queue", "queue")
    await settled()
    socket.dispatcher.cancel(second, "cancelled")
    assert (socket.ended, socket.dispatcher.waiting, len(socket.dispatcher)) == (["q2"], 1, 2)
    await settled()
    assert socket.begun == ["q1"]
    socket.dispatcher.cancel(second, "cancelled")
    assert socket.ended == ["q2"]


async def test_a_request_whose_task_is_over_holds_it_no_more_and_then_it_is_idle(socket: Socket) -> None:
    (spoken,) = socket.submit("queue")
    idle = asyncio.create_task(socket.dispatcher.idle())
    await settled()
    assert spoken.task is not None
    assert not idle.done()
    socket.end("q1")
    await settled()
    assert spoken.task is None
    assert idle.done()
    assert socket.dispatcher.find("q1") is None


async def test_a_socket_that_is_lost_leaves_nothing_behind() -> None:
    socket = Socket()

    async def serving() -> None:
        async with asyncio.TaskGroup() as group:
            socket.dispatcher.begin(group)
            requests.extend(socket.submit("queue", "queue"))

    requests: list[Spoken] = []
    task = asyncio.create_task(serving())
    await settled()
    task.cancel()
    await asyncio.wait({task})
    assert [spoken.request_id for spoken in socket.dispatcher] == ["q1", "q2"], "they can be reported still"
    socket.dispatcher.close()
    assert [spoken.task for spoken in requests] == [None, None]
    assert (len(socket.dispatcher), socket.ended) == (0, [])
    await asyncio.wait_for(socket.dispatcher.idle(), PATIENCE_S)
