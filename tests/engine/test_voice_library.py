"""A folder of voices: what is in it, how changes are noticed while it serves, and what a voice's key tells apart."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.engine.voice_folders import RATE, key_of, speech, voice
from tts_engine import LoadError
from tts_engine.manifests import Reference
from tts_engine.voice_library import VoiceLibrary

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
