"""Text that arrives while it is spoken: however it is cut, the codes are those of the whole, and what is refused."""

import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import Listener
from tests.engine.sounds import hum
from tests.engine.writing import CONFIG, SENTENCES, Writer, cuts_of
from tts_engine import Engine, InvalidRequest, Speak

KINDS: dict[str, dict[str, Any]] = {
    "x-vector": {"reference_audio": hum(1.0), "reference_sample_rate": 24_000},
    "in-context": {"reference_audio": hum(1.0), "reference_sample_rate": 24_000, "reference_text": "And so it was."},
    "custom_voice": {"voice": "ryan"},
}


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
