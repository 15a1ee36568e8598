"""Voice folders on disk: what a manifest may say, what a recording must be, and how changes are noticed."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tts_engine import InvalidRequest, LoadError, manifests, voice_library
from tts_engine.manifests import Reference, read_manifest, read_recording
from tts_engine.voice_library import VoiceLibrary

RATE = 24_000


def speech(seconds: float = 2.0, rate: int = RATE, seed: int = 0, amplitude: float = 0.3) -> np.ndarray:
    """Something that passes for a recording, mono."""
    return np.random.default_rng(seed).uniform(-amplitude, amplitude, round(seconds * rate)).astype(np.float32)


def voice(library: Path, name: str = "one", samples: Any = None, content: Any = None, **values: Any) -> Path:
    """A voice folder with reference.wav when there are samples, and the manifest {"name": "One", **values}."""
    folder = library / name
    folder.mkdir(parents=True, exist_ok=True)
    if samples is not None:
        soundfile.write(folder / "reference.wav", samples, RATE, subtype="FLOAT")
        values.setdefault("reference_audio", "reference.wav")
    text = content if isinstance(content, str) else json.dumps(content or {"name": "One", **values})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return folder


def reading(library: Path, name: str = "one") -> voice_library.VoiceFolder:
    found = VoiceLibrary(library).get(name)
    assert found is not None
    return found


def key_of(found: voice_library.VoiceFolder | None) -> str:
    assert found is not None
    assert found.reference is not None
    return found.reference.key


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


# Keys.


def test_the_same_sound_and_words_have_the_same_key_wherever_they_come_from(tmp_path: Path) -> None:
    for name in ("one", "two"):
        voice(tmp_path, name, samples=speech(), reference_text="Hello there.")
    keys = {key_of(VoiceLibrary(tmp_path).get(name)) for name in ("one", "two")}
    assert keys == {Reference.of(speech(), RATE, " Hello there.\n").key}


def test_voices_with_one_transcript_never_share_a_key() -> None:
    samples = speech()
    others = [speech(seed=1), 0.5 * samples, samples[:-1], np.append(samples, np.float32(0)), -samples, samples[::-1]]
    one_step = samples.copy()
    one_step[7] = np.nextafter(one_step[7], np.float32(1))
    keys = {Reference.of(other, RATE, "Hello.").key for other in (samples, *others, one_step)}
    assert len(keys) == 8


def test_one_sound_with_other_words_has_another_key() -> None:
    keys = [Reference.of(speech(), RATE, text).key for text in (None, "Hello.", "hello.", "Hello", "Hello. \0")]
    assert len(set(keys)) == 5
    assert {Reference.of(speech(), RATE, text).key for text in (None, "", "  ")} == {keys[0]}


def test_words_that_are_no_text_have_a_key_and_are_refused_later() -> None:
    assert Reference.of(speech(), RATE, "\ud800").key != Reference.of(speech(), RATE, "\ud801").key


def test_words_cannot_pass_for_samples_in_a_key() -> None:
    longer = np.append(speech(), np.float32(0))
    forged = "\0\0\0" + "\0" + "Hello."
    assert Reference.of(longer, RATE, "Hello.").key != Reference.of(longer[:-1], RATE, forged).key


# The library.


def test_a_library_of_nothing_is_empty() -> None:
    library = VoiceLibrary(None)
    assert (library.names(), library.check(), library.manifests(), library.get("one")) == ([], {}, [], None)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", voice(tmp_path) / "manifest.json"):
        with pytest.raises(LoadError, match="does not exist"):
            VoiceLibrary(path)


def test_only_folders_that_are_seen_and_real_are_voices(tmp_path: Path) -> None:
    library = tmp_path / "voices"
    voice(library, "b")
    voice(library, "a")
    (library / "README.md").write_text("about these")
    (library / ".adding-xyz" / "c").mkdir(parents=True)
    (library / "linked").symlink_to(voice(tmp_path, "elsewhere"))
    assert VoiceLibrary(library).names() == ["a", "b"]
    assert list(VoiceLibrary(library).check()) == ["a", "b"]


def test_checking_stops_at_a_voice_that_cannot_be_used_and_listing_leaves_it_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    voice(tmp_path, "good")
    voice(tmp_path, "bad", content="{")
    library = VoiceLibrary(tmp_path)
    with pytest.raises(LoadError, match=r"bad/manifest\.json"):
        library.check()
    assert [manifest.id for manifest in library.manifests()] == ["good"]
    assert "bad/manifest.json" in caplog.text


@pytest.mark.parametrize("name", ["../one", "one/", "./one", ".", "..", "", "one/manifest.json", "one\0", "ONE", "/"])
def test_a_name_is_compared_and_never_followed(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    voice(tmp_path / "voices")
    voice(tmp_path)
    monkeypatch.chdir(tmp_path / "voices")
    assert VoiceLibrary(tmp_path / "voices").get(name) is None


def test_a_voice_is_read_once_while_its_files_stay_as_they_are(tmp_path: Path) -> None:
    voice(tmp_path, samples=speech())
    library = VoiceLibrary(tmp_path)
    assert library.get("one") is library.get("one")


def test_a_voice_that_is_added_while_the_library_is_in_use_is_there_at_once(tmp_path: Path) -> None:
    library = VoiceLibrary(tmp_path)
    assert library.get("one") is None
    voice(tmp_path, samples=speech())
    assert library.get("one") is not None
    assert library.names() == ["one"]


def test_a_removed_voice_is_gone_at_once_and_may_come_back_as_another(tmp_path: Path) -> None:
    folder = voice(tmp_path, samples=speech())
    library = VoiceLibrary(tmp_path)
    first = library.get("one")
    folder.rename(tmp_path.parent / f"{tmp_path.name}-gone")
    assert library.get("one") is None
    voice(tmp_path, samples=speech(seed=1))
    second = library.get("one")
    assert key_of(first) != key_of(second)


def test_a_changed_recording_is_noticed_even_with_its_old_size_and_time(tmp_path: Path) -> None:
    folder = voice(tmp_path, samples=speech())
    library = VoiceLibrary(tmp_path)
    before, then = library.get("one"), (folder / "reference.wav").stat()
    soundfile.write(folder / "new.wav", speech(seed=1), RATE, subtype="FLOAT")
    os.utime(folder / "new.wav", ns=(then.st_atime_ns, then.st_mtime_ns))
    os.replace(folder / "new.wav", folder / "reference.wav")
    after = library.get("one")
    assert key_of(before) != key_of(after)


def test_a_changed_transcript_is_noticed(tmp_path: Path) -> None:
    voice(tmp_path, samples=speech(), reference_text="Hello.")
    library = VoiceLibrary(tmp_path)
    before = library.get("one")
    voice(tmp_path, samples=speech(), reference_text="Hello there.")
    after = library.get("one")
    assert key_of(before) != key_of(after)
    assert after is not None
    assert after.reference is not None
    assert after.reference.text == "Hello there."


def test_a_voice_that_breaks_is_refused_and_serves_again_once_mended(tmp_path: Path) -> None:
    folder = voice(tmp_path, samples=speech())
    library = VoiceLibrary(tmp_path)
    assert library.get("one") is not None
    (folder / "reference.wav").unlink()
    with pytest.raises(LoadError, match="cannot read"):
        library.get("one")
    voice(tmp_path, samples=speech(seed=1))
    assert library.get("one") is not None


def test_a_request_brings_what_a_folder_could_hold() -> None:
    with pytest.raises(InvalidRequest, match=r"lasts 0\.50 s"):
        Reference.of(speech(0.5), RATE, None)
