"""Text that arrives while it is spoken: however it is cut and whenever it comes, the codes are those of the whole."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import PATIENCE_S, Listener
from tests.engine.sounds import TimedListener, hum
from tts_engine import Engine, EngineConfig, InvalidRequest, Speak

CONFIG = EngineConfig(slots=8, max_waiting=32, max_frames=220, segment_tokens=500, text_idle_seconds=5.0)
IMPATIENT = replace(CONFIG, text_idle_seconds=0.2)
# Long enough that a machine with other things to do is not taken for a writer who stays away.
AWAY_S = 1.0

SENTENCES = (
    "Hello, it's 5.30 on a nice day!",
    "你好，世界。今天好！去。",
    "Größe: 3 m – cafe\u0301 😀.",
    "한 \u1112\u1161\u11ab, мир… か\u3099。",
    "two\n\nlines   and\ttabs \u00a0 x",
)
KINDS: dict[str, dict[str, Any]] = {
    "x-vector": {"reference_audio": hum(1.0), "reference_sample_rate": 24_000},
    "in-context": {"reference_audio": hum(1.0), "reference_sample_rate": 24_000, "reference_text": "And so it was."},
    "custom_voice": {"voice": "ryan"},
}


def cuts_of(text: str, draw: random.Random) -> list[str]:
    cuts = sorted(draw.sample(range(1, len(text)), draw.randint(1, min(12, len(text) - 1))))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


class Writer:
    """Writes one text in pieces: the first with the request, the others when told."""

    def __init__(self, engine: Engine, name: str, speak: Speak, pieces: list[str]) -> None:
        self._engine, self._name = engine, name
        self.listener = Listener()
        first, *self._pieces = pieces
        engine.submit(replace(speak, text=first, utterance=name, text_complete=False), self.listener)

    def write_all(self) -> None:
        """Append the rest, piece by piece; the last completes the text."""
        while self._pieces:
            piece = self._pieces.pop(0)
            assert self._engine.append(self._name, piece, complete=not self._pieces)


@pytest.mark.parametrize("kind", KINDS)
def test_however_a_text_is_cut_the_codes_are_those_of_the_whole(
    load_engine: LoadEngine, kind: str, figure: Figure
) -> None:
    model_type = "custom_voice" if kind == "custom_voice" else "base"
    engine = load_engine(CONFIG, model_type=model_type, dtype="float64")
    draw, frames = random.Random(3), 0
    for number, text in enumerate(SENTENCES):
        speak = Speak(text=text, seed=number, max_frames=48, **KINDS[kind])
        whole = Listener()
        engine.submit(replace(speak, text_placement="stream"), whole)
        assert whole.outcome.error is None
        writers = [Writer(engine, f"{kind}-{number}-{i}", speak, cuts_of(text, draw)) for i in range(8)]
        for writer in sorted(writers, key=lambda _: draw.random()):
            writer.write_all()
        for writer in writers:
            assert writer.listener.outcome.error is None
            assert np.array_equal(writer.listener.codes, whole.codes)
            frames += len(writer.listener.frames)
    figure(f"live text: codes identical, {kind}, float64", f"{8 * len(SENTENCES)} random cuts, {frames} frames")


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


def test_too_much_text_is_refused_and_the_utterance_goes_on(load_engine: LoadEngine) -> None:
    engine, listener = load_engine(replace(CONFIG, max_text_tokens=40)), Listener()
    engine.submit(Speak(text="Hello there, ", utterance="u", text_complete=False, seed=2), listener)
    with pytest.raises(InvalidRequest, match=r"tokens; the limit is 40"):
        engine.append("u", "z" * 60, complete=True)
    with pytest.raises(InvalidRequest, match="control token"):
        engine.append("u", "<|im_end|>", complete=True)
    assert engine.append("u", "you.", complete=True)
    whole = Listener()
    engine.submit(Speak(text="Hello there, you.", text_placement="stream", seed=2), whole)
    assert listener.outcome.reason == whole.outcome.reason
    assert np.array_equal(listener.codes, whole.codes)


def test_a_first_text_that_is_refused_opens_nothing(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="control token"):
        engine.submit(Speak(text="<|im_end|>", utterance="u", text_complete=False), Listener())
    assert not engine.is_open("u")
    assert engine.append("u", "more", complete=False), "text already under way is nobody's fault"
    listener = Listener()
    engine.submit(Speak(text="Fine", utterance="u", text_complete=False), listener)
    assert engine.append("u", ".", complete=True)
    assert listener.outcome.error is None


def test_text_after_the_end_is_no_error_and_changes_nothing(engine: Engine) -> None:
    listener = Listener()
    engine.submit(Speak(text="Hello", utterance="u", text_complete=False, seed=1, max_frames=4), listener)
    assert engine.append("u", " you there", complete=True)
    assert engine.append("u", " and more", complete=False), "it was complete"
    assert listener.outcome.reason == "max_length"
    assert engine.append("u", " and more", complete=True), "it has ended"
    assert not engine.append("never", "text", complete=False)


def test_a_name_may_be_used_by_one_utterance_at_a_time(engine: Engine) -> None:
    first, second = Listener(), Listener()
    engine.submit(Speak(text="Hello", utterance="u", text_complete=False), first)
    with pytest.raises(InvalidRequest, match="'u' is open already"):
        engine.submit(Speak(text="Hello", utterance="u", text_complete=False), Listener())
    engine.append("u", ".", complete=True)
    engine.submit(Speak(text="Again", utterance="u", text_complete=False), second)
    engine.append("u", ".", complete=True)
    assert first.outcome.error is None
    assert second.outcome.error is None


@pytest.mark.parametrize("pieces", [["", ""], ["  ", "\n "], [" \t", "", "  "]])
def test_a_blank_live_text_is_complete_without_a_sound(engine: Engine, pieces: list[str]) -> None:
    writer = Writer(engine, "blank", Speak(text=""), pieces)
    writer.write_all()
    assert writer.listener.outcome.reason == "complete"
    assert not writer.listener.frames


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


@pytest.mark.parametrize(
    ("speak", "message"),
    [
        (Speak(text="a", text_complete=False), "no utterance is named"),
        (Speak(text="a", text_complete=False, utterance="u", text_placement="prefill"), "must be 'stream'"),
    ],
)
def test_a_live_request_that_cannot_be_is_refused(engine: Engine, speak: Speak, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        engine.submit(speak, Listener())


def test_no_piece_is_lost_when_many_threads_write(load_engine: LoadEngine) -> None:
    """All write the same word, so that the text is the same whatever their order."""
    engine, listener = load_engine(CONFIG), Listener()
    engine.submit(Speak(text="go", utterance="u", text_complete=False, seed=4, max_frames=150), listener)
    threads = [
        threading.Thread(target=lambda: [engine.append("u", " on", complete=False) for _ in range(5)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.append("u", "", complete=True)
    whole = Listener()
    engine.submit(Speak(text="go" + " on" * 40, text_placement="stream", seed=4, max_frames=150), whole)
    assert whole.outcome.reason == listener.outcome.reason
    assert np.array_equal(listener.codes, whole.codes)
