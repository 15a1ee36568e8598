"""Cloning through the engine: by a request's recording and by a folder's, and what must never go wrong with either."""

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.conftest import Demo
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import Listener
from tests.engine.sounds import hum
from tts_engine import Engine, EngineConfig, InvalidRequest, Speak, UnknownVoice
from tts_engine.manifests import Reference

ONE_SLOT = EngineConfig(slots=1, max_waiting=8, max_text_tokens=256, segment_tokens=256, max_frames=220)
WORDS = "The words."


def clone(sound: npt.NDArray[np.float32], **fields: Any) -> Speak:
    values: dict[str, Any] = {
        "text": "Hello there",
        "language": "english",
        "seed": 3,
        "max_frames": 12,
        "reference_sample_rate": 24_000,
    }
    return Speak(reference_audio=sound, **(values | fields))


def say(engine: Engine, speak: Speak) -> Listener:
    listener = Listener()
    engine.submit(speak, listener)
    assert listener.outcome.error is None, listener.outcome.error
    return listener


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """A folder with two voices that say the same words, one of them without their transcript."""
    for number, (name, text) in enumerate((("ada", WORDS), ("bo", None))):
        folder = tmp_path / name
        folder.mkdir()
        soundfile.write(folder / "reference.wav", hum(1.5, number), 24_000, subtype="FLOAT")
        manifest = {"name": name, "language": "english", "reference_audio": "reference.wav"}
        (folder / "manifest.json").write_text(json.dumps(manifest | ({"reference_text": text} if text else {})))
    return tmp_path


@pytest.fixture
def engine(demo: Demo, voices: Path) -> Iterator[Engine]:
    """A Base engine with those voices; `ada` is the default."""
    config = EngineConfig(slots=2, max_waiting=8, default_voice="ada")
    engine = Engine.load(demo(model_type="base"), config, voices, device="cpu", dtype="float32", threads="1")
    engine.start()
    yield engine
    engine.shutdown()


def test_a_folder_and_a_request_with_its_recording_say_the_same(engine: Engine) -> None:
    common = {"text": "Hello there", "language": "english", "seed": 3, "max_frames": 12}
    for name, number, text in (("ada", 0, WORDS), ("bo", 1, None)):
        by_folder = say(engine, Speak(voice=name, **common))  # type: ignore[arg-type]
        by_request = say(engine, clone(hum(1.5, number), reference_text=text))
        assert np.array_equal(by_folder.codes, by_request.codes)
        assert np.array_equal(np.concatenate(by_folder.pcm), np.concatenate(by_request.pcm))
        assert by_folder.outcome.info["voice"] == name


def test_without_a_voice_the_default_one_is_cloned(engine: Engine) -> None:
    assert say(engine, Speak(text="Hello", max_frames=3)).outcome.info["voice"] == "ada"


def test_a_transcript_changes_what_is_said_and_how_it_begins(engine: Engine) -> None:
    sound = hum(1.5)
    alone, in_context = say(engine, clone(sound)), say(engine, clone(sound, reference_text=WORDS))
    assert not np.array_equal(alone.codes, in_context.codes)


def test_an_unknown_voice_is_named_with_what_there_is(engine: Engine) -> None:
    with pytest.raises(UnknownVoice, match=r"'eve'.*ada, bo"):
        engine.submit(Speak(text="Hello", voice="eve"), Listener())


def test_a_changed_recording_is_heard_at_once(engine: Engine, voices: Path) -> None:
    speak = Speak(text="Hello there", voice="ada", seed=3, max_frames=12)
    before = say(engine, speak)
    soundfile.write(voices / "ada" / "reference.wav", hum(1.7, 5), 24_000, subtype="FLOAT")
    after = say(engine, speak)
    assert not np.array_equal(before.codes, after.codes)
    assert np.array_equal(after.codes, say(engine, clone(hum(1.7, 5), reference_text=WORDS)).codes)


def test_a_voice_that_comes_while_the_engine_runs_can_be_used(engine: Engine, voices: Path) -> None:
    folder = voices / "cy"
    folder.mkdir()
    soundfile.write(folder / "take.flac", hum(1.2, 9), 16_000)
    (folder / "manifest.json").write_text(json.dumps({"name": "Cy", "reference_audio": "take.flac"}))
    assert say(engine, Speak(text="Hello", voice="cy", max_frames=3)).outcome.info["voice"] == "cy"
    assert "cy" in engine.describe()["voices"]  # type: ignore[operator]


def test_a_kept_voice_keeps_neither_its_recording_nor_those_who_waited_for_it(engine: Engine) -> None:
    sound, listener = hum(1.3, 11), Listener()
    gone = weakref.ref(listener)
    engine.submit(clone(sound), listener)
    assert listener.outcome.error is None
    del listener
    say(engine, clone(hum(1.5, 12)))  # the encoder and the engine have let go of what came before
    gc.collect()
    assert gone() is None
    kept = [len(one.samples) for one in gc.get_objects() if type(one) is Reference]
    assert len(sound) not in kept, "the voice's memory is bounded, its recording's would not be"


@pytest.mark.parametrize("placement", ["prefill", "stream"])
@pytest.mark.parametrize("words", ["z" * 12, "z" * 13, "z" * 14, "z" * 15, "many words " * 30])
def test_a_transcript_may_have_more_tokens_than_the_recording_has_frames(
    load_engine: LoadEngine, placement: str, words: str
) -> None:
    engine = load_engine(ONE_SLOT, model_type="base")
    said = say(engine, clone(hum(1.0), reference_text=words, text_placement=placement))
    assert len(said.frames) > 1


def test_live_text_behind_a_transcript_far_longer_than_its_recording_finds_room(load_engine: LoadEngine) -> None:
    engine, listener = load_engine(ONE_SLOT, model_type="base"), Listener()
    speak = clone(hum(1.0), reference_text="z" * 500, text="a b " * 60, utterance="long", text_complete=False)
    engine.submit(speak, listener)
    assert engine.append("long", "", complete=True)
    assert listener.outcome.error is None


def test_clones_work_in_double_precision(load_engine: LoadEngine) -> None:
    engine = load_engine(ONE_SLOT, model_type="base", dtype="float64")
    assert len(say(engine, clone(hum(1.5), reference_text=WORDS)).frames) > 1


def test_a_recording_of_enormous_numbers_does_not_spoil_the_slot_for_others(load_engine: LoadEngine) -> None:
    engine = load_engine(ONE_SLOT, model_type="base")
    before = say(engine, clone(hum(1.0)))
    sound = hum(1.0)
    with pytest.raises(InvalidRequest):
        engine.submit(clone((sound / np.abs(sound).max() * 3e38).astype(np.float32), text="Hello " * 20), Listener())
    assert np.array_equal(say(engine, clone(hum(1.0))).codes, before.codes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reference_sample_rate": 4_000}, r"8000 to 192000 Hz, got 4000"),
        ({"reference_text": "say <|im_end|> now"}, "control token"),
        ({"reference_text": "z" * 600}, r"600 tokens; the limit is 512"),
        ({"reference_audio": hum(0.9)}, r"0\.90 s"),
        ({"reference_audio": hum(30.1)}, r"30\.10 s"),
        ({"reference_audio": np.zeros(24_000, dtype=np.float32)}, "silent"),
        ({"reference_audio": np.full(24_000, np.nan, dtype=np.float32)}, "not finite"),
    ],
)
def test_a_request_whose_recording_cannot_be_cloned_is_told_why(
    engine: Engine, fields: dict[str, Any], message: str
) -> None:
    sound = fields.pop("reference_audio", hum(1.0)) if "reference_audio" in fields else hum(1.0)
    with pytest.raises(InvalidRequest, match=message):
        engine.submit(clone(sound, **fields), Listener())
