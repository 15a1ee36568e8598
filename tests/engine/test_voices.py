"""Voice folders and speakers: what a manifest may say, and what a name leads to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands.demo_checkpoint import write_demo_checkpoint
from tests.conftest import Demo
from tests.engine.conftest import VOICES
from tts_engine import SettingsError, UnknownVoice, Unsupported
from tts_engine.checkpoint import Checkpoint
from tts_engine.model_config import ModelConfig
from tts_engine.voices import Manifest, VoiceBook, read_manifests

MAKIMA = Manifest(id="makima", name="Makima", speaker="Serena", instruct="Calm.", language="english")
MUTE = Manifest(id="mute", name="Mute")
BEIJING = Manifest(id="beijing", name="B", speaker="dylan")
ABSENT = Manifest(id="absent", name="A", speaker="nobody")
FOLDERS = {m.id: m for m in (MAKIMA, MUTE, BEIJING, ABSENT)}


def written(folder: Path, name: str, content: Any) -> Path:
    (folder / name).mkdir(parents=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name / "manifest.json").write_text(text, encoding="utf-8")
    return folder


def design(demo: Demo) -> ModelConfig:
    return Checkpoint.read(demo(model_type="voice_design", size="1b7")).model


# Manifests.


def test_the_voices_of_this_repository_can_be_read() -> None:
    assert read_manifests(VOICES)["makima"].speaker == "serena"


def test_every_key_of_a_manifest_is_kept(tmp_path: Path) -> None:
    values = {
        key: f"the {key}"
        for key in ("name", "description", "language", "reference_audio", "reference_text", "speaker", "instruct")
    } | {"source": "here", "licence": "CC0"}
    assert read_manifests(written(tmp_path, "one", values)) == {"one": Manifest(id="one", **values)}


def test_files_beside_the_folders_are_no_voices(tmp_path: Path) -> None:
    written(tmp_path, "one", {"name": "One"})
    (tmp_path / "README.md").write_text("about these")
    assert list(read_manifests(tmp_path)) == ["one"]
    assert read_manifests(None) == {}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot read"),
        ("[]", "must be a JSON object with a name"),
        ({}, "must be a JSON object with a name"),
        ({"name": 5}, "must be a JSON object with a name"),
        ({"name": "One", "speeker": "ryan"}, "unknown key 'speeker'; known: description, instruct"),
        ({"name": "One", "speaker": ["ryan"]}, "speaker must be a text"),
        ({"name": "One", "id": "two"}, "unknown key 'id'"),
    ],
)
def test_a_malformed_manifest_is_refused_by_path_and_key(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        read_manifests(written(tmp_path, "one", content))
    assert "one/manifest.json" in str(caught.value)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(SettingsError, match=r"one/manifest\.json"):
        read_manifests(tmp_path)


@pytest.mark.parametrize("name", ["Makima", "two words", "-dash", "é", "x" * 65])
def test_a_folder_whose_name_is_no_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="is no voice id"):
        read_manifests(written(tmp_path, name, {"name": "One"}))


def test_a_missing_voices_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        read_manifests(tmp_path / "none")


# Names.


def test_a_folder_is_spoken_by_its_speaker(checkpoint: Checkpoint) -> None:
    book = VoiceBook(checkpoint.model, FOLDERS, "makima")
    voice = book.resolve("makima")
    assert (voice.id, voice.language, voice.dialect) == ("makima", "english", None)
    assert voice.speaker_id == checkpoint.model.speakers["serena"]
    assert book.resolve("beijing").dialect == "beijing_dialect"
    assert book.ids == ["makima", "beijing"]


@pytest.mark.parametrize("name", ["ryan", "Ryan", "RYAN"])
def test_a_speaker_is_found_in_any_case(checkpoint: Checkpoint, name: str) -> None:
    voice = VoiceBook(checkpoint.model, FOLDERS, "makima").resolve(name)
    assert (voice.id, voice.speaker_id) == ("ryan", checkpoint.model.speakers["ryan"])


@pytest.mark.parametrize("name", ["nobody", "mute", "absent", "", "ryan ", "x" * 1000])
def test_an_unknown_name_is_refused_with_a_list_of_those_there_are(checkpoint: Checkpoint, name: str) -> None:
    with pytest.raises(UnknownVoice, match="aiden, beijing, dylan, eric, makima") as caught:
        VoiceBook(checkpoint.model, FOLDERS, "makima").resolve(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["../makima", "makima/", "./makima", "/etc/passwd", "makima/manifest.json", "a\0b"])
def test_a_name_that_looks_like_a_path_is_only_a_name(
    checkpoint: Checkpoint, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "inner", "voice", {"name": "V", "speaker": "ryan"})
    written(tmp_path, "makima", {"name": "M", "speaker": "ryan"})
    book = VoiceBook(checkpoint.model, read_manifests(tmp_path / "inner"), "voice")
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(UnknownVoice):
        book.resolve(name)


def test_without_a_name_the_default_speaks(checkpoint: Checkpoint) -> None:
    ids = {
        default: VoiceBook(checkpoint.model, FOLDERS, default).resolve(None).id
        for default in ("makima", "vivian", "absent", "unheard-of")
    }
    first = next(iter(checkpoint.model.speakers))
    assert ids == {"makima": "makima", "vivian": "vivian", "absent": first, "unheard-of": first}


def test_a_fine_tuned_single_speaker_is_found_and_is_the_default(tmp_path: Path) -> None:
    model = Checkpoint.read(write_demo_checkpoint(tmp_path / "tuned", speakers={"Anna": 3000})).model
    book = VoiceBook(model, FOLDERS, "makima")
    assert list(model.speakers) == ["anna"]
    assert book.resolve(None).id == book.resolve("ANNA").id == "anna"
    assert book.resolve(None).dialect is None
    assert book.ids == []
    with pytest.raises(UnknownVoice, match="this server has: anna"):
        book.resolve("serena")


def test_a_checkpoint_without_any_speaker_says_so(checkpoint: Checkpoint) -> None:
    with pytest.raises(UnknownVoice, match="no speakers"):
        VoiceBook(replace(checkpoint.model, speakers={}), FOLDERS, "makima").resolve(None)


def test_a_designing_checkpoint_speaks_described_voices(demo: Demo) -> None:
    book = VoiceBook(design(demo), FOLDERS, "makima")
    voice = book.resolve("makima")
    assert (voice.id, voice.instruct, voice.speaker_id) == ("makima", "Calm.", None)
    assert book.resolve(None) == voice
    assert book.ids == ["makima"]
    for name in ("mute", "serena"):
        with pytest.raises(UnknownVoice, match="this server has: makima"):
            book.resolve(name)


def test_a_designing_checkpoint_without_a_described_default_speaks_undescribed(demo: Demo) -> None:
    voice = VoiceBook(design(demo), {}, "makima").resolve(None)
    assert (voice.id, voice.instruct) == ("undescribed", None)


def test_a_base_checkpoint_is_not_served_yet(demo: Demo) -> None:
    book = VoiceBook(Checkpoint.read(demo(model_type="base")).model, FOLDERS, "makima")
    with pytest.raises(Unsupported, match="Base"):
        book.resolve(None)
