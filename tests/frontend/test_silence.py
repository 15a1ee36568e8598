"""Silence: only that of a model somebody waits for counts, and a watch that fails leaves nobody waiting."""

import asyncio

from frontend.errors import Stalled
from frontend.silence import Silence
from frontend.synthesis import Description

PATIENCE_S = 10.0
PROBE_S, STALL_S = 0.01, 0.1


async def test_only_silence_that_is_listened_to_is_asked_about() -> None:
    asked: list[str] = []
    ended = asyncio.Event()
    waited_for, alone = Silence(ended.set), Silence(lambda: None)

    async def describe(whose: str) -> Description:
        asked.append(whose)
        return Description("tiny", "one")

    watches = [
        asyncio.create_task(silence.watch(lambda whose=whose: describe(whose), "one", PROBE_S, STALL_S))
        for whose, silence in (("waited for", waited_for), ("alone", alone))
    ]
    with waited_for.listening():
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
    assert isinstance(waited_for.failure, Stalled)
    assert len(asked) > 1
    assert set(asked) == {"waited for"}
    assert alone.failure is None
    for watch in watches:
        watch.cancel()


async def test_a_watch_that_fails_ends_the_reading() -> None:
    ended = asyncio.Event()
    silence = Silence(ended.set)

    async def describe() -> Description:
        raise ZeroDivisionError

    watching = asyncio.create_task(silence.watch(describe, "one", PROBE_S, STALL_S))
    with silence.listening():
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
    await watching
