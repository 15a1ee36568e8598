"""How much one caller and all callers may have at once, and that nothing stays counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing

import pytest

from frontend.admission import Admission, Limits
from frontend.admitted_speech import AdmittedSpeech
from frontend.errors import InferenceFailed, Overloaded, TooManyRequests
from frontend.rate_limit import TokenBucket
from frontend.synthesis import Description, SpeechRequest
from tests.frontend.fakes import FakeSpeech, Script


def admission(capacity: int | None = None, **limits: float) -> Admission:
    chosen = {
        "sockets_per_account": 2,
        "sockets_per_address": 3,
        "utterances_per_account": 2,
        "characters_per_s": 1000.0,
        "character_burst": 100,
        **limits,
    }
    return Admission(Limits(**chosen), lambda: capacity)


def test_a_bucket_gives_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(10.0, 100, 0.0)
    assert bucket.take(0.0, 100)
    assert not bucket.take(0.0, 1)
    assert bucket.wait_s(0.0, 20) == pytest.approx(2.0)
    assert not bucket.take(1.9, 20)
    assert bucket.take(2.0, 20)


def test_a_bucket_never_holds_more_than_a_burst() -> None:
    bucket = TokenBucket(10.0, 100, 0.0)
    assert bucket.take(1_000.0, 100)
    assert not bucket.take(1_000.0, 1)


def test_more_than_a_burst_waits_for_a_full_bucket_and_is_owed() -> None:
    bucket = TokenBucket(10.0, 100, 0.0)
    assert bucket.take(0.0, 250)
    assert bucket.wait_s(0.0, 1) == pytest.approx(15.1)
    assert bucket.is_full(25.0)


def test_the_sockets_of_a_key_and_of_an_address_are_limited_and_come_back() -> None:
    doors = admission()
    with ExitStack() as places:
        for account in ("alice", "alice", "bob"):
            places.enter_context(doors.socket(account, "198.51.100.7"))
        with pytest.raises(TooManyRequests, match="2 connections of this key"):
            places.enter_context(doors.socket("alice", "198.51.100.8"))
        with pytest.raises(TooManyRequests, match="3 connections of this address") as refusal:
            places.enter_context(doors.socket("carol", "198.51.100.7"))
        assert refusal.value.retry_after_ms == 1000
    with doors.socket("alice", "198.51.100.7"):
        pass


def test_without_keys_only_the_address_counts() -> None:
    doors = admission()
    with ExitStack() as places:
        for _ in range(3):
            places.enter_context(doors.socket("198.51.100.7", "198.51.100.7"))


async def test_the_model_is_not_asked_for_more_than_it_takes() -> None:
    doors = admission(capacity=3)
    with ExitStack() as places:
        for account in ("alice", "alice", "bob"):
            places.enter_context(doors.utterance(account))
        with pytest.raises(Overloaded, match="3 utterances are being made or wait, the limit is 3") as refusal:
            places.enter_context(doors.utterance("carol"))
        assert refusal.value.retry_after_ms == 1000  # a mean of 3 s, three of them at work
        with pytest.raises(TooManyRequests, match="2 utterances of this caller"):
            places.enter_context(doors.utterance("alice"))
    assert doors.in_use == 0


async def test_while_the_models_size_is_unknown_only_callers_are_limited() -> None:
    doors = admission(utterances_per_account=50)
    with ExitStack() as places:
        for _ in range(50):
            places.enter_context(doors.utterance("alice"))


async def test_characters_are_a_callers_own() -> None:
    doors = admission()
    doors.spend("alice", 100)
    with pytest.raises(TooManyRequests, match="1000 characters per second") as refusal:
        doors.spend("alice", 50)
    assert refusal.value.retry_after_ms is not None
    assert 100 <= refusal.value.retry_after_ms <= 10_000
    doors.spend("bob", 100)


async def test_what_was_refused_tells_nothing_of_how_long_an_utterance_takes() -> None:
    speech, doors = FakeSpeech(), admission(capacity=1)
    admitted = AdmittedSpeech(speech, doors, "alice")
    doors.spend("alice", 100)
    for _ in range(50):
        with pytest.raises(TooManyRequests):
            await anext(admitted.speak(SpeechRequest("No characters are left.")))
    with doors.utterance("bob"), pytest.raises(Overloaded) as refusal:
        await anext(AdmittedSpeech(speech, doors, "carol").speak(SpeechRequest("Hi.")))
    assert refusal.value.retry_after_ms == 3000  # the mean with which it begins


async def test_an_utterance_holds_a_place_until_it_ends_in_whatever_way() -> None:
    speech, doors = FakeSpeech(), admission()
    admitted = AdmittedSpeech(speech, doors, "alice")
    speech.script("Fails.", Script(error=InferenceFailed("broken")))
    assert [chunk async for chunk in admitted.speak(SpeechRequest("Whole."))]
    with pytest.raises(InferenceFailed):
        [chunk async for chunk in admitted.speak(SpeechRequest("Fails."))]
    async with aclosing(admitted.speak(SpeechRequest("Closed."))) as chunks:
        await anext(chunks)
        assert (doors.in_use, speech.active) == (1, 1)
    assert (doors.in_use, speech.active) == (0, 0)


async def test_a_cancelled_utterance_leaves_its_place() -> None:
    speech, doors = FakeSpeech(), admission()
    script = speech.script("Long.", Script(hold_after=1))

    async def speak() -> None:
        async with aclosing(AdmittedSpeech(speech, doors, "alice").speak(SpeechRequest("Long."))) as chunks:
            async for _ in chunks:
                pass

    task = asyncio.create_task(speak())
    await script.held.wait()
    assert doors.in_use == 1
    task.cancel()
    await asyncio.wait({task})
    assert (doors.in_use, speech.active) == (0, 0)


async def test_a_refused_utterance_never_reaches_the_model() -> None:
    speech = FakeSpeech()
    admitted = AdmittedSpeech(speech, admission(capacity=0), "alice")
    with pytest.raises(Overloaded):
        await anext(admitted.speak(SpeechRequest("Hello.")))
    assert speech.requests == []


async def test_live_text_is_slowed_down_and_not_refused() -> None:
    heard: list[str] = []

    class Listening(FakeSpeech):
        async def speak(self, request, more=None):
            heard.extend([text async for text in more])
            async for chunk in super().speak(request):
                yield chunk

    async def typed() -> AsyncIterator[str]:
        for _ in range(3):
            yield "x" * 50

    doors = admission(character_burst=60)
    admitted = AdmittedSpeech(Listening(), doors, "alice")
    began = asyncio.get_running_loop().time()
    async for _ in admitted.speak(SpeechRequest("Live."), typed()):
        pass
    assert heard == ["x" * 50] * 3
    # 155 characters, 60 at once, the rest at 1000 per second.
    assert asyncio.get_running_loop().time() - began >= 0.09


def test_the_size_of_the_model_is_what_it_says() -> None:
    said = Description("m", "i", False, {"limits": {"slots": 8, "max_waiting": 24}})
    assert said.capacity == 32
    assert Description("m", "i").capacity is None
