"""Live text that stays away: what an utterance that waits costs others, how long it may, what it says afterwards."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import PATIENCE_S, Listener
from tests.engine.sounds import TimedListener
from tests.engine.writing import CONFIG, SENTENCES, Writer
from tts_engine import Engine, Speak

IMPATIENT = replace(CONFIG, text_idle_seconds=0.2)
# Long enough that a machine with other things to do is not taken for a writer who stays away.
AWAY_S = 1.0


def test_an_utterance_that_paused_again_and_again_says_what_an_unpaused_one_says(load_engine: LoadEngine) -> None:
    """Each letter comes only when the engine has nothing left to do for it: two other whole utterances lie between."""
    engine, listener, pauses = load_engine(CONFIG, dtype="float64"), Listener(), 0
    speak = Speak(text="We, you, I: all.", seed=8, voice="ryan", max_frames=60)
    engine.submit(replace(speak, text=speak.text[:4], utterance="starved", text_complete=False), listener)
    for number, letter in enumerate(speak.text[4:], start=5):
        heard = _heard_when_another_has_ended(engine, listener)
        pauses += heard == _heard_when_another_has_ended(engine, listener)
        engine.append("starved", letter, complete=number == len(speak.text))
    whole = Listener()
    engine.submit(replace(speak, text_placement="stream"), whole)
    assert whole.outcome.reason == listener.outcome.reason
    assert np.array_equal(listener.codes, whole.codes)
    assert pauses >= 8


def _heard_when_another_has_ended(engine: Engine, listener: Listener) -> int:
    other = Listener()
    engine.submit(Speak(text="Hm", seed=1, max_frames=3), other)
    assert other.outcome
    return len(listener.frames)


SEVEN = [Speak(text="Long enough to go on for a while. " * 2, seed=n, max_frames=50, voice="ryan") for n in range(7)]


def seven_together(engine: Engine, beside: Callable[[], None] = lambda: None) -> list[TimedListener]:
    """Seven speakers who enter together; `beside` is called before them."""
    beside()
    listeners = [TimedListener() for _ in SEVEN]
    for speak, listener in zip(SEVEN, listeners, strict=True):
        engine.submit(speak, listener)
    assert all(listener.outcome.error is None for listener in listeners)
    return listeners


def test_a_starved_row_costs_the_seven_beside_it_nothing(load_engine: LoadEngine, figure: Figure) -> None:
    """Codes are equal, and a step is no slower than with eight rows that all speak."""
    engine = load_engine(CONFIG, dtype="float64")
    alone = seven_together(engine)
    started = threading.Event()
    starved = Listener(on_frame=lambda count: started.set())

    def starve() -> None:
        engine.submit(Speak(text="Wait for", voice="ryan", utterance="dry", text_complete=False, seed=1), starved)
        engine.append("dry", " it now", complete=False)
        assert started.wait(PATIENCE_S)

    def speak_on() -> None:
        engine.submit(replace(SEVEN[0], seed=9, max_frames=60), Listener())

    beside = seven_together(engine, starve)
    waited = len(starved.frames)
    engine.append("dry", " and so on.", complete=True)
    assert starved.outcome.error is None
    assert len(starved.frames) > waited, "it went on"
    full = seven_together(engine, speak_on)
    for one, other in zip(alone, beside, strict=True):
        assert np.array_equal(one.codes, other.codes)
    medians = [float(np.median(np.concatenate([x.work for x in group]))) for group in (alone, beside, full)]
    seven, with_starved, eight = (1000 * median for median in medians)
    figure(
        "median work of a step of seven speakers",
        f"{seven:.2f} ms alone, {with_starved:.2f} ms beside a starved row, {eight:.2f} ms beside one that speaks",
    )
    assert with_starved < 1.5 * max(seven, eight)


@pytest.fixture
def impatient(load_engine: LoadEngine) -> Engine:
    """Waits a fifth of a second for text."""
    return load_engine(IMPATIENT)


def test_text_that_stays_away_ends_the_utterance(impatient: Engine) -> None:
    listener = Listener()
    began = time.monotonic()
    impatient.submit(Speak(text="Hello there my fri", utterance="u", text_complete=False, seed=1), listener)
    assert listener.outcome.reason == "text_timeout"
    assert listener.outcome.info["reason"] == "text_timeout"
    assert 0.2 <= time.monotonic() - began < PATIENCE_S
    assert 0 < len(listener.frames) < 20
    assert impatient.append("u", "end", complete=True), "too late is nobody's fault"


def test_an_utterance_whose_first_word_never_comes_ends_too(impatient: Engine) -> None:
    listener = Listener()
    impatient.submit(Speak(text="", utterance="u", text_complete=False), listener)
    assert listener.outcome.reason == "text_timeout"
    assert not listener.frames


def test_text_that_comes_in_time_again_and_again_ends_nothing(load_engine: LoadEngine) -> None:
    engine = load_engine(replace(CONFIG, text_idle_seconds=AWAY_S))
    began, listener = time.monotonic(), Listener(on_frame=lambda count: heard.release())
    heard = threading.Semaphore(0)
    engine.submit(Speak(text="Go on ", utterance="u", text_complete=False, seed=1, max_frames=200), listener)
    pause = threading.Event()
    while time.monotonic() - began < 1.2 * AWAY_S:
        assert engine.append("u", "a b ", complete=False)
        assert heard.acquire(timeout=PATIENCE_S)
        assert not pause.wait(0.1 * AWAY_S)
    engine.append("u", "end", complete=True)
    assert listener.outcome.reason in ("complete", "max_length")


@pytest.fixture
def engine(load_engine: LoadEngine) -> Engine:
    return load_engine(CONFIG)


def test_a_starved_utterance_can_be_cancelled(engine: Engine) -> None:
    started = threading.Event()
    listener = Listener(on_frame=lambda count: started.set())
    utterance_id = engine.submit(Speak(text="Hello there, wait", utterance="u", text_complete=False), listener)
    assert started.wait(PATIENCE_S)
    engine.cancel(utterance_id)
    assert listener.outcome.reason == "cancelled"
    assert engine.append("u", " more", complete=True)
    assert engine.statistics.active == 0


def test_starved_rows_move_without_losing_anything(load_engine: LoadEngine) -> None:
    """Four neighbours that end one after another make every starved row move, text and all."""
    engine = load_engine(replace(CONFIG, text_idle_seconds=60.0), dtype="float64")
    speak = Speak(text=SENTENCES[0], seed=5, voice="ryan", max_frames=40)
    whole = Listener()
    engine.submit(replace(speak, text_placement="stream"), whole)
    assert whole.outcome
    neighbours = [Listener() for _ in range(4)]
    for length, neighbour in enumerate(neighbours):
        engine.submit(Speak(text="Short", seed=length, max_frames=4 + 3 * length), neighbour)
    writers = [Writer(engine, f"w{i}", speak, [SENTENCES[0][:9], SENTENCES[0][9:]]) for i in range(4)]
    assert all(neighbour.outcome for neighbour in neighbours)
    for writer in writers:
        writer.write_all()
        assert writer.listener.outcome.reason == whole.outcome.reason
        assert np.array_equal(writer.listener.codes, whole.codes)
