"""What waits for a socket's one writer: whose turn it is, what overtakes what, and who is made to wait."""

import asyncio

import pytest

from frontend.lanes import Lane, Lanes
from frontend.outbox import OutboxFull


def say(lane: Lane, *pieces: str) -> None:
    lane.put(lambda: pieces)


async def taken(lanes: Lanes, count: int) -> str:
    return "".join([str(await asyncio.wait_for(lanes.take(), 5)) for _ in range(count)])


async def runs(task: asyncio.Task[None]) -> bool:
    """Whether a task is over once everything has gone on until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


async def test_lanes_take_turns_parcel_by_parcel() -> None:
    lanes = Lanes(10)
    one, other = lanes.lane(1.0), lanes.lane(1.0)
    for lane, pieces in ((one, "abc"), (other, "xyz")):
        for piece in pieces:
            say(lane, piece)
    assert await taken(lanes, 6) == "axbycz"


async def test_messages_overtake_lanes_and_tear_no_parcel_apart() -> None:
    lanes = Lanes(10)
    lane = lanes.lane(1.0)
    say(lane, "a", "b")
    say(lane, "c")
    assert await taken(lanes, 1) == "a"
    lanes.put("!", "?")
    assert await taken(lanes, 4) == "b!?c"


async def test_sound_waits_for_room_in_its_own_lane_and_the_first_never() -> None:
    lanes = Lanes(10)
    lane, other = lanes.lane(0.1), lanes.lane(0.1)
    await asyncio.wait_for(lane.put_audio(5.0, lambda: ["long"]), 5)
    waiting = asyncio.create_task(lane.put_audio(0.05, lambda: ["more"]))
    assert not await runs(waiting)
    await asyncio.wait_for(other.put_audio(0.1, lambda: ["other"]), 5)
    assert await taken(lanes, 1) == "long"
    assert await runs(waiting)
    assert await taken(lanes, 2) == "othermore"


async def test_a_lane_that_is_dropped_says_nothing_more_and_lets_go_who_waited_for_room() -> None:
    lanes = Lanes(10)
    lane, other = lanes.lane(0.1), lanes.lane(0.1)
    await lane.put_audio(0.1, lambda: ["gone"])
    waiting = asyncio.create_task(lane.put_audio(0.1, lambda: ["late"]))
    assert not await runs(waiting)
    say(other, "other")
    lane.drop()
    assert await runs(waiting)
    lane.drop()
    assert await taken(lanes, 1) == "other"
    await asyncio.wait_for(lanes.emptied(), 5)


async def test_so_many_messages_wait_and_no_piece_more() -> None:
    lanes = Lanes(3)
    lanes.put("a", "b", "c")
    with pytest.raises(OutboxFull, match="3 messages wait to be sent, the limit is 3"):
        lanes.put("d")
    assert await taken(lanes, 2) == "ab"
    lanes.put("d", "e")
    with pytest.raises(OutboxFull):
        lanes.put("f")
    assert await taken(lanes, 3) == "cde"


async def test_closing_forgets_all_and_nobody_is_left_waiting() -> None:
    lanes = Lanes(3)
    lane = lanes.lane(0.1)
    lanes.put("a")
    await lane.put_audio(0.1, lambda: ["b"])
    waiting = asyncio.create_task(lanes.emptied())
    assert not await runs(waiting)
    lanes.close()
    assert await runs(waiting)


async def test_what_was_begun_waits_too_until_it_is_taken_or_forgotten() -> None:
    lanes = Lanes(3)
    for forgotten in (False, True):
        say(lanes.lane(0.1), "a", "b")
        assert await taken(lanes, 1) == "a"
        waiting = asyncio.create_task(lanes.emptied())
        assert not await runs(waiting)
        if forgotten:
            lanes.close()
        else:
            assert await taken(lanes, 1) == "b"
        assert await runs(waiting)
