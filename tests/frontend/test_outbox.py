"""What waits for a socket of protocol 1: what overtakes what, who is made to wait, and what is counted as sent."""

import asyncio

import pytest

from frontend.outbox import Outbox, OutboxFull, Sent
from tests.frontend.test_lanes import runs

FRAME = bytes(100)


@pytest.fixture
def outbox() -> Outbox:
    """Room for a frame and a half, and for three messages."""
    return Outbox(150, 3)


async def taken(outbox: Outbox, count: int) -> list[str | bytes]:
    return [await asyncio.wait_for(outbox.take(), 5) for _ in range(count)]


async def test_dropping_the_sound_of_protocol_1_lets_go_who_waited_for_room() -> None:
    outbox, sent = Outbox(100, 3), Sent()
    await asyncio.wait_for(outbox.put_audio(bytes(200), sent), 5)
    waiting = asyncio.create_task(outbox.put_audio(bytes(100), sent))
    assert not await runs(waiting)
    outbox.drop_audio()
    assert await runs(waiting)
    outbox.put("end")
    assert [await outbox.take() for _ in range(2)] == ["end", bytes(100)]
    assert sent.pcm_bytes == 100


async def test_messages_overtake_sound_but_for_the_last_of_an_utterance(outbox: Outbox) -> None:
    await outbox.put_audio(FRAME, Sent())
    last = outbox.put_last("end")
    outbox.put("at once")
    assert await taken(outbox, 2) == ["at once", FRAME]
    assert not last.is_set()
    assert await taken(outbox, 1) == ["end"]
    assert last.is_set()


async def test_so_many_messages_wait_and_no_more(outbox: Outbox) -> None:
    for text in "abc":
        outbox.put(text)
    with pytest.raises(OutboxFull, match="3 messages wait to be sent, the limit is 3"):
        outbox.put("d")
    assert await taken(outbox, 1) == ["a"]
    outbox.put("d")
    assert await taken(outbox, 3) == ["b", "c", "d"]


async def test_sound_waits_for_room_and_goes_when_there_is_some(outbox: Outbox) -> None:
    sent = Sent()
    await asyncio.wait_for(outbox.put_audio(FRAME, sent), 5)
    for _ in range(3):
        waiting = asyncio.create_task(outbox.put_audio(FRAME, sent))
        assert not await runs(waiting)
        assert await taken(outbox, 1) == [FRAME]
        assert await runs(waiting)
    await asyncio.wait_for(outbox.put_audio(FRAME[:50], sent), 5)


async def test_sound_counts_as_sent_when_it_is_taken_and_its_first_moment_stays() -> None:
    outbox, sent, other = Outbox(1_000, 3), Sent(), Sent()
    for one in (sent, other, sent):
        await outbox.put_audio(FRAME, one)
    assert (sent.pcm_bytes, sent.first_at) == (0, None)
    await taken(outbox, 1)
    first_at = sent.first_at
    assert first_at is not None
    assert (sent.pcm_bytes, other.pcm_bytes) == (100, 0)
    await taken(outbox, 2)
    assert (sent.pcm_bytes, other.pcm_bytes) == (200, 100)
    assert sent.first_at == first_at


@pytest.mark.parametrize("how", ["taken", "dropped", "closed"])
async def test_it_is_empty_when_all_of_it_was_taken_or_forgotten(outbox: Outbox, how: str) -> None:
    outbox.put("a")
    await outbox.put_audio(FRAME, Sent())
    last = outbox.put_last("end")
    waiting = asyncio.create_task(outbox.emptied())
    assert not await runs(waiting)
    if how == "closed":
        outbox.close()
    else:
        assert await taken(outbox, 1) == ["a"]
        assert not await runs(waiting)
        if how == "dropped":
            outbox.drop_audio()
        else:
            assert await taken(outbox, 2) == [FRAME, "end"]
    assert await runs(waiting)
    assert last.is_set() == (how == "taken")
    await asyncio.wait_for(outbox.put_audio(bytes(150), Sent()), 5)
    assert not await runs(asyncio.create_task(outbox.emptied())), "and so it goes on"
