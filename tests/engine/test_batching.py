"""Batched == alone: what shares the batch, and when it comes and goes, changes no code of an utterance."""

import random
import threading
from dataclasses import dataclass

import numpy as np
import pytest

from tests.conftest import Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import PATIENCE_S, Listener
from tts_engine import Engine, EngineConfig, Speak

TOGETHER = EngineConfig(slots=5, max_waiting=16, max_text_tokens=160, max_instruct_tokens=100, max_frames=60)
ALONE = EngineConfig(slots=1, max_waiting=16, max_text_tokens=160, max_instruct_tokens=100, max_frames=60)

TEXTS = ("Hi.", "Good morning!", "你好，世界。", "One, two, three, four, five.", "A", "Where are you now? " * 6)
VOICES = (None, "makima", "ryan", "dylan", "eric", "Serena", "sohee")
LANGUAGES = (None, "auto", "chinese", "en", "Japanese")
INSTRUCTS = (None, "Whisper.", "Say it with joy.")


@dataclass(frozen=True)
class Arrival:
    """A request, and how many frames the engine has made when it comes in."""

    speak: Speak
    after_frames: int


def some_arrivals(seed: int) -> list[Arrival]:
    """Sixteen requests of every kind, the first at once."""
    draw = random.Random(seed)
    times = [0, *sorted(draw.randrange(150) for _ in range(15))]
    return [Arrival(_some_request(draw, number), time) for number, time in enumerate(times)]


def _some_request(draw: random.Random, number: int) -> Speak:
    greedy = number % 5 == 0
    return Speak(
        text=draw.choice(TEXTS),
        voice=draw.choice(VOICES),
        language=draw.choice(LANGUAGES),
        instruct=draw.choice(INSTRUCTS),
        temperature=0.0 if greedy else draw.choice((None, 0.6, 1.3)),
        top_k=draw.choice((None, 0, 1, 20)),
        top_p=draw.choice((None, 0.8, 1.0)),
        repetition_penalty=draw.choice((None, 1.0, 1.3)),
        predictor_temperature=draw.choice((None, 0.5)),
        predictor_top_k=draw.choice((None, 10)),
        predictor_top_p=draw.choice((None, 0.9)),
        seed=draw.choice((number, 2**63 + number, 2**64 - 1 - number)),
        max_frames=draw.choice((3, 9, 17, 30, None)),
        text_placement=("prefill", "stream")[number % 2],
    )


def speak_together(engine: Engine, arrivals: list[Arrival]) -> list[Listener]:
    """Submit the first, and each later one from the engine thread when its time has come or all is quiet."""
    coming, done = list(arrivals), threading.Event()
    heard: list[Listener] = []
    made = unfinished = 0

    def next_one() -> None:
        nonlocal unfinished
        heard.append(Listener(on_frame=frame_made, on_end=ended))
        unfinished += 1
        engine.submit(coming.pop(0).speak, heard[-1])

    def frame_made(count: int) -> None:
        nonlocal made
        made += 1
        while coming and coming[0].after_frames <= made:
            next_one()

    def ended() -> None:
        nonlocal unfinished
        unfinished -= 1
        if coming and not unfinished:
            next_one()
        elif not unfinished:
            done.set()

    next_one()
    assert done.wait(PATIENCE_S)
    return heard


def speak_alone(engine: Engine, arrivals: list[Arrival]) -> list[Listener]:
    heard = []
    for arrival in arrivals:
        heard.append(Listener())
        engine.submit(arrival.speak, heard[-1])
        assert heard[-1].outcome
    return heard


def compare(load: LoadEngine, size: str, dtype: str) -> tuple[list[Listener], list[Listener]]:
    arrivals = some_arrivals(seed=7)
    together = speak_together(load(TOGETHER, size=size, dtype=dtype), arrivals)
    return together, speak_alone(load(ALONE, size=size, dtype=dtype), arrivals)


@pytest.mark.parametrize("size", ["0b6", "1b7"])
def test_sixteen_utterances_together_say_what_each_says_alone(
    load_engine: LoadEngine, size: str, figure: Figure
) -> None:
    together, alone = compare(load_engine, size, "float64")
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.codes, other.codes)
        assert one.outcome.reason == other.outcome.reason
        assert np.allclose(one.pcm, other.pcm, rtol=0, atol=1)
    reasons = [listener.outcome.reason for listener in together]
    assert {"complete", "max_length"} == set(reasons)
    figure(
        f"batched == alone, {size}, float64",
        f"16 of 16 utterances, {sum(len(listener.frames) for listener in together)} frames, "
        f"{reasons.count('complete')} to their own end",
    )


@pytest.mark.parametrize("size", ["0b6", "1b7"])
def test_in_float32_rounding_flips_few_codes_or_none(load_engine: LoadEngine, size: str, figure: Figure) -> None:
    together, alone = compare(load_engine, size, "float32")
    same = [np.array_equal(one.codes, other.codes) for one, other in zip(together, alone, strict=True)]
    figure(f"batched == alone, {size}, float32", f"{sum(same)} of 16 utterances")
    assert sum(same) >= 12


def test_the_batch_really_was_shared(load_engine: LoadEngine) -> None:
    engine = load_engine(TOGETHER)
    most: list[int] = []
    listeners = [Listener(on_frame=lambda count: most.append(engine.statistics.active)) for _ in range(6)]
    for listener in listeners:
        engine.submit(Speak(text="Hello", max_frames=12, seed=1), listener)
    assert all(len(listener.codes) == 12 for listener in listeners if listener.outcome)
    assert max(most) == 5


def test_the_same_seed_says_the_same_and_another_does_not(load_engine: LoadEngine) -> None:
    engine = load_engine()
    codes = []
    for seed in (5, 5, 6, 2**63, 2**64 - 1):
        listener = Listener()
        engine.submit(Speak(text="Good morning", seed=seed, max_frames=8), listener)
        assert listener.outcome.info["seed"] == seed
        codes.append(listener.codes)
    assert np.array_equal(codes[0], codes[1])
    assert len({item.tobytes() for item in codes}) == 4


def test_without_a_seed_the_one_used_is_told_and_repeats_the_utterance(load_engine: LoadEngine) -> None:
    engine, first, second = load_engine(), Listener(), Listener()
    engine.submit(Speak(text="Good morning", max_frames=8), first)
    seed = first.outcome.info["seed"]
    assert isinstance(seed, int)
    engine.submit(Speak(text="Good morning", max_frames=8, seed=seed), second)
    assert second.outcome
    assert np.array_equal(first.codes, second.codes)
