"""Which voice a name leads to, for each kind of checkpoint: a folder, a speaker, or a recording a request brings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from commands.demo_checkpoint import write_demo_checkpoint
from tests.conftest import Demo
from tests.engine.conftest import VOICES
from tts_engine import InvalidRequest, UnknownVoice, Unsupported
from tts_engine.checkpoint import Checkpoint
from tts_engine.model_config import ModelConfig
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import REQUEST_VOICE, VoiceBook

EMPTY = VoiceLibrary(None)
RECORDING = np.random.default_rng(0).uniform(-0.4, 0.4, 36_000).astype(np.float32)


def written(library: Path, name: str, *, recorded: bool = False, **values: Any) -> Path:
    """A voice folder under `library`."""
    (library / name).mkdir(parents=True)
    if recorded:
        soundfile.write(library / name / "reference.wav", RECORDING, 24_000, subtype="FLOAT")
        values["reference_audio"] = "reference.wav"
    (library / name / "manifest.json").write_text(json.dumps({"name": name, **values}), encoding="utf-8")
    return library


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Voices of every kind of recipe."""
    library = tmp_path / "voices"
    written(
        library,
        "makima",
        recorded=True,
        speaker="Serena",
        instruct="Calm.",
        language="english",
        reference_text="Good evening.",
    )
    written(library, "mute")
    written(library, "beijing", speaker="dylan")
    written(library, "absent", speaker="nobody")
    written(library, "echo", recorded=True)
    return library


@pytest.fixture
def folders(voices: Path) -> VoiceLibrary:
    return VoiceLibrary(voices)


def design(demo: Demo) -> ModelConfig:
    return Checkpoint.read(demo(model_type="voice_design", size="1b7")).model


def base(demo: Demo) -> ModelConfig:
    return Checkpoint.read(demo(model_type="base")).model


def test_the_voices_of_this_repository_can_be_made_by_every_kind_of_checkpoint(
    demo: Demo, checkpoint: Checkpoint
) -> None:
    library = VoiceLibrary(VOICES)
    assert library.check()["makima"].manifest.speaker == "serena"
    for model in (checkpoint.model, design(demo), base(demo)):
        assert VoiceBook(model, library, "makima").ids == library.names()
        assert VoiceBook(model, library, "makima").resolve(None).id == "makima"


# Named speakers.


def test_a_folder_is_spoken_by_its_speaker(checkpoint: Checkpoint, folders: VoiceLibrary) -> None:
    book = VoiceBook(checkpoint.model, folders, "makima")
    voice = book.resolve("makima")
    assert (voice.id, voice.language, voice.dialect, voice.instruct) == ("makima", "english", None, "Calm.")
    assert voice.speaker_id == checkpoint.model.speakers["serena"]
    assert voice.reference is None
    assert book.resolve("beijing").dialect == "beijing_dialect"
    assert book.ids == ["beijing", "makima"]


@pytest.mark.parametrize("name", ["ryan", "Ryan", "RYAN"])
def test_a_speaker_is_found_in_any_case(checkpoint: Checkpoint, folders: VoiceLibrary, name: str) -> None:
    voice = VoiceBook(checkpoint.model, folders, "makima").resolve(name)
    assert (voice.id, voice.speaker_id) == ("ryan", checkpoint.model.speakers["ryan"])


@pytest.mark.parametrize("name", ["nobody", "mute", "absent", "echo", "", "ryan ", "x" * 1000])
def test_an_unknown_name_is_refused_with_a_list_of_those_there_are(
    checkpoint: Checkpoint, folders: VoiceLibrary, name: str
) -> None:
    with pytest.raises(UnknownVoice, match="aiden, beijing, dylan, eric, makima") as caught:
        VoiceBook(checkpoint.model, folders, "makima").resolve(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["../makima", "makima/", "./makima", "/etc/passwd", "makima/manifest.json", "a\0b"])
def test_a_name_that_looks_like_a_path_is_only_a_name(
    checkpoint: Checkpoint, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "inner", "voice", speaker="ryan")
    written(tmp_path, "makima", speaker="ryan")
    book = VoiceBook(checkpoint.model, VoiceLibrary(tmp_path / "inner"), "voice")
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(UnknownVoice):
        book.resolve(name)


def test_without_a_name_the_default_speaks(checkpoint: Checkpoint, folders: VoiceLibrary) -> None:
    ids = {
        default: VoiceBook(checkpoint.model, folders, default).resolve(None).id
        for default in ("makima", "vivian", "Vivian", "absent", "unheard-of")
    }
    first = next(iter(checkpoint.model.speakers))
    assert ids == {"makima": "makima", "vivian": "vivian", "Vivian": "vivian", "absent": first, "unheard-of": first}


def test_a_speaker_is_found_although_a_folder_has_its_name_and_cannot_be_made(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    written(tmp_path, "ryan")
    written(tmp_path, "eric", speaker="dylan")
    book = VoiceBook(checkpoint.model, VoiceLibrary(tmp_path), "makima")
    assert book.resolve("ryan").speaker_id == checkpoint.model.speakers["ryan"]
    assert book.resolve("eric").speaker_id == checkpoint.model.speakers["dylan"]


def test_a_fine_tuned_single_speaker_is_found_and_is_the_default(tmp_path: Path, folders: VoiceLibrary) -> None:
    model = Checkpoint.read(write_demo_checkpoint(tmp_path / "tuned", speakers={"Anna": 3000})).model
    book = VoiceBook(model, folders, "makima")
    assert list(model.speakers) == ["anna"]
    assert book.resolve(None).id == book.resolve("ANNA").id == "anna"
    assert book.resolve(None).dialect is None
    assert book.ids == []
    with pytest.raises(UnknownVoice, match="this server has: anna"):
        book.resolve("serena")


def test_a_checkpoint_without_any_speaker_says_so(checkpoint: Checkpoint, folders: VoiceLibrary) -> None:
    with pytest.raises(UnknownVoice, match="this server has none"):
        VoiceBook(replace(checkpoint.model, speakers={}), folders, "makima").resolve(None)


def test_a_folder_that_has_broken_is_refused_by_name_and_is_not_listed(
    checkpoint: Checkpoint, voices: Path, folders: VoiceLibrary
) -> None:
    book = VoiceBook(checkpoint.model, folders, "makima")
    (voices / "makima" / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="voice 'makima' cannot be used: cannot read"):
        book.resolve("makima")
    assert book.ids == ["beijing"]
    assert book.resolve("beijing").id == "beijing"


def test_trouble_with_a_folder_is_logged_once_and_forgotten_with_the_folder(
    voices: Path, folders: VoiceLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    broken = voices / "comes-and-goes"
    for times in (1, 2):
        broken.mkdir()
        folders.manifests()
        folders.manifests()
        assert sum("comes-and-goes" in line for line in caplog.messages) == times
        broken.rmdir()
        folders.manifests()


# Described voices.


def test_a_designing_checkpoint_speaks_described_voices(demo: Demo, folders: VoiceLibrary) -> None:
    book = VoiceBook(design(demo), folders, "makima")
    voice = book.resolve("makima")
    assert (voice.id, voice.language, voice.instruct, voice.speaker_id) == ("makima", "english", "Calm.", None)
    assert voice.reference is None
    assert book.resolve(None) == voice
    assert book.ids == ["makima"]
    for name in ("mute", "echo", "serena"):
        with pytest.raises(UnknownVoice, match="this server has: makima"):
            book.resolve(name)


def test_a_designing_checkpoint_without_a_described_default_speaks_undescribed(demo: Demo) -> None:
    voice = VoiceBook(design(demo), EMPTY, "makima").resolve(None)
    assert (voice.id, voice.instruct) == ("undescribed", None)


# Cloned voices.


def test_a_base_checkpoint_clones_the_voices_that_have_a_recording(demo: Demo, folders: VoiceLibrary) -> None:
    book = VoiceBook(base(demo), folders, "makima")
    voice = book.resolve("makima")
    assert (voice.id, voice.language, voice.instruct, voice.speaker_id) == ("makima", "english", None, None)
    assert voice.reference is not None
    assert (voice.reference.text, voice.reference.frames) == ("Good evening.", 19)
    assert np.array_equal(voice.reference.samples, RECORDING)
    echo = book.resolve("echo").reference
    assert echo is not None
    assert echo.text is None
    assert book.ids == ["echo", "makima"]
    for name in ("mute", "beijing", "serena"):
        with pytest.raises(UnknownVoice, match="this server has: echo, makima"):
            book.resolve(name)


def test_a_base_checkpoint_without_its_default_speaks_in_the_first_voice_it_can_make(
    demo: Demo, folders: VoiceLibrary
) -> None:
    for default in ("beijing", "unheard-of"):
        assert VoiceBook(base(demo), folders, default).resolve(None).id == "echo"
    with pytest.raises(UnknownVoice, match="this server has none"):
        VoiceBook(base(demo), EMPTY, "makima").resolve(None)


def test_a_recording_that_comes_with_a_request_is_a_voice_for_base_checkpoints_alone(
    demo: Demo, checkpoint: Checkpoint
) -> None:
    voice = VoiceBook(base(demo), EMPTY, "makima").cloned(RECORDING, 24_000, " Words. ")
    assert voice.id == REQUEST_VOICE
    assert voice.reference is not None
    assert voice.reference.text == "Words."
    for model in (checkpoint.model, design(demo)):
        with pytest.raises(Unsupported, match=f"reference_audio needs a Base checkpoint; this one is {model.type}"):
            VoiceBook(model, EMPTY, "makima").cloned(RECORDING, 24_000, None)
    with pytest.raises(InvalidRequest, match=r"lasts 0\.00 s"):
        VoiceBook(base(demo), EMPTY, "makima").cloned(RECORDING[:10], 24_000, None)
