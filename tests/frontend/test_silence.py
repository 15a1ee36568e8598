"""Silence: only that of a model somebody waits for counts, and a watch that fails leaves nobody waiting."""

import asyncio

from frontend.errors import NotReady, Stalled
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


class Conversation:
    """A model that is asked by a watch, and sound that a test lets come while it is."""

    def __init__(self) -> None:
        self.silence = Silence(lambda: None)
        self.asked: asyncio.Queue[asyncio.Future[Description]] = asyncio.Queue()
        watching = self.silence.watch(self.describe, "one", PROBE_S, 100 * STALL_S)
        self.watching = asyncio.create_task(watching)

    async def describe(self) -> Description:
        answer: asyncio.Future[Description] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(answer)
        return await answer

    async def question(self) -> asyncio.Future[Description]:
        return await asyncio.wait_for(self.asked.get(), PATIENCE_S)


async def test_sound_that_comes_while_it_is_asked_outweighs_whatever_is_answered() -> None:
    told = Conversation()
    with told.silence.listening():
        question = await told.question()
    with told.silence.listening():  # sound has come, and more is waited for
        question.set_result(Description("tiny", "two"))
        (await told.question()).set_result(Description("tiny", "one"))
        await told.question()
    assert told.silence.failure is None
    told.watching.cancel()


async def test_questions_that_stay_unanswered_count_only_within_one_silence() -> None:
    told = Conversation()
    for _ in range(4):
        with told.silence.listening():
            (await told.question()).set_exception(NotReady("hiccup"))
            await asyncio.sleep(0)
    with told.silence.listening():
        await told.question()
        assert told.silence.failure is None
    told.watching.cancel()


async def test_a_watch_that_fails_ends_the_reading() -> None:
    ended = asyncio.Event()
    silence = Silence(ended.set)

    async def describe() -> Description:
        raise ZeroDivisionError

    watching = asyncio.create_task(silence.watch(describe, "one", PROBE_S, STALL_S))
    with silence.listening():
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
    await watching
