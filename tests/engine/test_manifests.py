"""Voice folders on disk: what a manifest may say and what a recording must be."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.engine.voice_folders import RATE, reading, speech, voice
from tts_engine import InvalidRequest, LoadError, manifests
from tts_engine.manifests import Reference, read_manifest, read_recording
from tts_engine.voice_library import VoiceLibrary

# Manifests.


def test_every_key_of_a_manifest_is_kept(tmp_path: Path) -> None:
    keys = ("name", "description", "language", "reference_text", "speaker", "instruct", "source", "licence")
    values = {key: f"the {key}" for key in keys} | {"reference_audio": "a b.flac"}
    assert read_manifest(voice(tmp_path, content=values)) == manifests.Manifest(id="one", **values)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot read"),
        ("", "cannot read"),
        ("[" * 100_000, "cannot read"),
        ("\ufeff{}", "cannot read"),
        ("[]", "must be a JSON object with a name"),
        ("null", "must be a JSON object with a name"),
        ('{"speaker": "ryan"}', "must be a JSON object with a name"),
        ('{"name": 5}', "must be a JSON object with a name"),
        ('{"name": "One", "speeker": "ryan"}', "unknown key 'speeker'; known: description, instruct"),
        ('{"name": "One", "id": "two"}', "unknown key 'id'"),
        ('{"name": "One", "speaker": ["ryan"]}', "speaker must be a text"),
        ('{"name": "One", "language": null}', "language must be a text, got None"),
    ],
)
def test_a_malformed_manifest_is_refused_by_path_and_key(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(LoadError, match=complaint) as caught:
        read_manifest(voice(tmp_path, content=content))
    assert "one/manifest.json" in str(caught.value)


def test_a_manifest_that_is_not_utf_8_or_missing_is_refused(tmp_path: Path) -> None:
    folder = voice(tmp_path)
    (folder / "manifest.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(LoadError, match=r"cannot read .*manifest\.json"):
        read_manifest(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(LoadError, match=r"cannot read .*manifest\.json"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "path", ["", ".", "..", "/etc/passwd", "../two/reference.wav", "sub/reference.wav", "reference.wav/", "./a.wav"]
)
def test_a_recording_lies_in_its_own_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(LoadError, match="reference_audio must be the name of a file in the same folder"):
        read_manifest(voice(tmp_path, reference_audio=path))


@pytest.mark.parametrize("name", ["Makima", "two words", "-dash", "_under", "é", "x" * 65, "a.b", "one\n"])
def test_a_folder_whose_name_is_no_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoadError, match="is no voice id"):
        read_manifest(voice(tmp_path, name))


# Recordings.


def test_a_recording_becomes_the_reference_with_its_transcript(tmp_path: Path) -> None:
    samples = speech(2.0)
    voice(tmp_path, samples=np.stack([samples, -0.5 * samples], axis=1), reference_text="  Two words. ")
    reference = reading(tmp_path).reference
    assert reference is not None
    assert np.allclose(reference.samples, 0.25 * samples, atol=1e-7)
    assert (reference.text, reference.frames) == ("Two words.", 25)


@pytest.mark.parametrize(("samples", "frames"), [(24_000, 13), (24_960, 13), (24_961, 14), (720_000, 375)])
def test_a_frame_that_has_begun_counts(samples: int, frames: int) -> None:
    assert Reference.of(speech(samples / RATE), RATE, None).frames == frames


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        (speech(0.99), r"lasts 0\.99 s; it must last from 1 to 30 s"),
        (speech(30.01), r"lasts 30\.01 s"),
        (np.zeros(2 * RATE, np.float32), "is silent"),
        (np.where(np.arange(2 * RATE) == 5, np.nan, speech()), "not finite"),
        (np.zeros(0, np.float32), r"lasts 0\.00 s"),
    ],
)
def test_a_recording_that_cannot_be_cloned_is_refused_with_its_path(
    tmp_path: Path, samples: np.ndarray, complaint: str
) -> None:
    voice(tmp_path, samples=samples)
    with pytest.raises(LoadError, match=complaint) as caught:
        VoiceLibrary(tmp_path).get("one")
    assert "one/reference.wav" in str(caught.value)


@pytest.mark.parametrize("name", ["noise.wav", "noise.ogg", "noise.raw", "manifest.json", "noise"])
def test_a_file_that_is_no_sound_is_refused(tmp_path: Path, name: str) -> None:
    folder = voice(tmp_path, reference_audio=name)
    if name != "manifest.json":
        (folder / name).write_bytes(bytes(range(256)))
    with pytest.raises(LoadError, match="cannot read"):
        VoiceLibrary(tmp_path).get("one")


@pytest.mark.parametrize("name", ["missing.wav", "nul\0.wav", "x" * 300])
def test_a_recording_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    voice(tmp_path, reference_audio=name)
    with pytest.raises(LoadError, match="cannot read"):
        VoiceLibrary(tmp_path).get("one")


def test_a_linked_recording_is_refused(tmp_path: Path) -> None:
    folder = voice(tmp_path / "voices", samples=speech())
    (folder / "reference.wav").rename(tmp_path / "elsewhere.wav")
    (folder / "reference.wav").symlink_to(tmp_path / "elsewhere.wav")
    with pytest.raises(LoadError, match="is a link"):
        VoiceLibrary(tmp_path / "voices").get("one")


def test_what_is_no_regular_file_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(voice(tmp_path, reference_audio="pipe.wav") / "pipe.wav")
    (voice(tmp_path, "two", reference_audio="folder.wav") / "folder.wav").mkdir()
    for name in ("one", "two"):
        with pytest.raises(LoadError, match=r"\.wav"):
            VoiceLibrary(tmp_path).get(name)


def test_clipping_is_told_and_served_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    voice(tmp_path, samples=np.clip(4 * speech(), -1, 1))
    with caplog.at_level(logging.WARNING):
        assert reading(tmp_path).reference is not None
    assert "reference.wav is clipped" in caplog.text


def test_no_more_is_read_than_could_be_used(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros((8_000 * 40, 2), np.float32), 8_000)
    samples, rate = read_recording(tmp_path / "long.wav")
    assert (samples.shape, samples.dtype, rate) == ((8_000 * 31, 2), np.float32, 8_000)


def test_a_request_brings_what_a_folder_could_hold() -> None:
    with pytest.raises(InvalidRequest, match=r"lasts 0\.50 s"):
        Reference.of(speech(0.5), RATE, None)
