"""scripts/voices add: any sound file becomes a whole voice, and every refusal is one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import CommandFailed
from commands.voice_folder import VoiceDirectory
from commands.voice_recording import trim_silence, write_recording
from tests.commands.voices_at_hand import TEXT, Run, Samples, padded, reference, tone
from tts_engine import manifests, voice_library

# Sound.


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["in.wav", "in.flac", "in.ogg"])
def test_any_format_rate_and_number_of_channels_becomes_24_khz_mono(
    run: Run, library: Path, sound: Callable[..., Path], rate: int, channels: int, name: str
) -> None:
    file = sound(tone(rate=rate, channels=channels), rate, name, "PCM_16")
    code, out, err = run("add", "one", file, "--text", TEXT)
    assert (code, err) == (0, "")
    assert out.startswith(f"{library / 'one'}: 2.0")
    recording = soundfile.info(library / "one" / "reference.wav")
    assert (recording.format, recording.subtype, recording.samplerate, recording.channels) == (
        *("WAV", "PCM_16", 24_000, 1),
    )
    assert np.abs(reference(library).samples[2_400:45_600] - tone()[2_400:45_600, 0]).max() < 0.02


def test_channels_are_mixed(run: Run, library: Path, sound: Callable[..., Path]) -> None:
    left = tone(channels=2) * np.array([1, 0], np.float32)
    assert run("add", "one", sound(left))[0] == 0
    assert np.abs(reference(library).samples).max() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100])
def test_silence_around_speech_is_cut_but_for_a_tenth_of_a_second(
    run: Run, library: Path, sound: Callable[..., Path], rate: int
) -> None:
    noisy = padded(tone(rate=rate), 1.5, 40.0, rate) + np.float32(1e-4)
    assert run("add", "one", sound(noisy, rate))[0] == 0
    samples = reference(library).samples
    assert len(samples) / 24_000 == pytest.approx(2.2, abs=0.03)
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    assert loud[0] / 24_000 == pytest.approx(0.1, abs=0.02)


def test_a_pause_in_the_middle_stays() -> None:
    speech = np.concatenate([tone(1.0), np.zeros((24_000, 1), np.float32), tone(1.0)])[:, 0]
    assert np.array_equal(trim_silence(speech, 24_000), speech)


def test_trimming_silence_alone_or_nothing_cuts_nothing() -> None:
    for length in (0, 1, 50_000):
        assert len(trim_silence(np.zeros(length, np.float32), 24_000)) == length


@pytest.mark.parametrize(("seconds", "fits"), [(0.7, False), (0.85, True), (29.75, True), (30.2, False)])
def test_the_limits_of_length_hold_after_trimming(
    run: Run, library: Path, sound: Callable[..., Path], seconds: float, fits: bool
) -> None:
    code, _, err = run("add", "one", sound(padded(tone(seconds), 2.0, 2.0)))
    assert code == (0 if fits else 1)
    assert fits or "it must last from 1 to 30 s" in err
    assert (library / "one").is_dir() == fits


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        (np.zeros((48_000, 1), np.float32), "is silent"),
        (np.zeros((0, 1), np.float32), "lasts 0.00 s"),
        (tone(amplitude=5e-4), "is silent"),
        (np.where(np.arange(48_000)[:, None] == 9, np.nan, tone()), "not finite"),
        (np.where(np.arange(48_000)[:, None] == 9, np.inf, tone(channels=2)), "not finite"),
        (tone(channels=2) * np.array([1, -1], np.float32), "is silent"),
        (tone(1.0, channels=40), "has 40 channels; at most 32"),
    ],
)
def test_sound_that_cannot_be_cloned_is_refused_in_one_line(
    run: Run, library: Path, sound: Callable[..., Path], samples: Samples, complaint: str
) -> None:
    code, out, err = run("add", "one", sound(samples))
    assert (code, out) == (1, "")
    assert complaint in err
    assert "in.wav" in err
    assert err.count("\n") == 1
    assert list(library.iterdir()) == []


def test_sound_that_is_far_too_long_is_not_even_read(run: Run, sound: Callable[..., Path]) -> None:
    code, _, err = run("add", "one", sound(np.zeros((8_000 * 121, 1), np.float32), 8_000))
    assert (code, "lasts 121 s; at most 120 s are read" in err) == (1, True)


@pytest.mark.parametrize("name", ["none.wav", "text.wav", "headless.raw", "folder.wav"])
def test_a_file_that_cannot_be_read_is_named(run: Run, library: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    (tmp_path / "headless.raw").write_bytes(bytes(96_000))
    (tmp_path / "folder.wav").mkdir()
    code, _, err = run("add", "one", tmp_path / name)
    assert code == 1
    assert err.startswith("voices: ")
    assert name in err
    assert err.count("\n") == 1
    assert list(library.iterdir()) == []


def test_clipped_and_quiet_recordings_are_added_with_a_warning(
    run: Run, library: Path, sound: Callable[..., Path]
) -> None:
    clipped = np.clip(tone(amplitude=2.0, channels=2), -1, 1) * np.array([1, 0.1], np.float32)
    code, _, err = run("add", "loud", sound(clipped), "--text", TEXT)
    assert (code, err.count("\n")) == (0, 1)
    assert "warning: loud: clipped: " in err
    code, _, err = run("add", "low", sound(tone(amplitude=0.02)), "--text", TEXT)
    assert (code, err.count("\n")) == (0, 1)
    assert "warning: low: quiet: it peaks at -34 dBFS; -20 dBFS or more is better" in err
    assert voice_library.VoiceLibrary(library).names() == ["loud", "low"]


def test_what_exceeds_full_scale_is_held_there(tmp_path: Path) -> None:
    write_recording(tmp_path / "out.wav", np.array([-1.5, 0.0, 1.5], np.float32))
    assert soundfile.read(tmp_path / "out.wav", dtype="int16")[0].tolist() == [-32767, 0, 32767]


@pytest.mark.parametrize("rate", [11_025, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [1, 30])
def test_a_recording_as_short_or_long_as_may_be_is_read_back(
    run: Run, library: Path, sound: Callable[..., Path], rate: int, seconds: int
) -> None:
    assert run("add", "one", sound(tone(seconds, rate), rate))[0] == 0
    assert len(reference(library).samples) / 24_000 == pytest.approx(seconds, abs=1e-4)


# Names and words.


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "/tmp/x", "Upper", "é", "a b", ".hidden", "x" * 65, "a\n", "nul\0"]
)
def test_an_id_that_could_be_a_path_is_refused(
    run: Run, library: Path, tmp_path: Path, sound: Callable[..., Path], name: str
) -> None:
    file = sound(tone())
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("add", name, file)
    assert (code, "is no voice id" in err, err.count("\n")) == (1, True, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_id_that_is_taken_is_refused_whatever_has_taken_it(
    run: Run, library: Path, sound: Callable[..., Path]
) -> None:
    (library / "folder").mkdir()
    (library / "file").write_text("x")
    (library / "link").symlink_to(library / "nowhere")
    for name in ("folder", "file", "link"):
        code, _, err = run("add", name, sound(tone()))
        assert (code, f"already holds '{name}'" in err) == (1, True)
    assert list((library / "folder").iterdir()) == []


def test_everything_said_of_a_voice_stands_in_its_manifest(run: Run, library: Path, sound: Callable[..., Path]) -> None:
    options = {
        "name": "Jürgen 王",
        "description": "Who?",
        "language": "de",
        "speaker": "ryan",
        "instruct": "An old man.",
        "source": "me",
        "licence": "CC0-1.0",
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", f" {value} ")]
    code, _, err = run("add", "one", sound(tone()), "--text", "  Grüß Gott, alle! ", *arguments)
    assert (code, err) == (0, "")
    written = json.loads((library / "one" / "manifest.json").read_text(encoding="utf-8"))
    assert written == {**options, "reference_audio": "reference.wav", "reference_text": "Grüß Gott, alle!"}


def test_a_voice_without_words_is_named_by_its_id_and_told_what_it_lacks(
    run: Run, library: Path, sound: Callable[..., Path]
) -> None:
    code, _, err = run("add", "one", sound(tone()))
    assert (code, "it has no transcript" in err) == (0, True)
    written = json.loads((library / "one" / "manifest.json").read_text(encoding="utf-8"))
    assert written == {"name": "one", "reference_audio": "reference.wav"}


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--text", "  ", "reference_text is empty"),
        ("--name", "", "name is empty"),
        ("--text", "<|im_end|>", "reference_text contains the control token '<|im_end|>'"),
        ("--instruct", "a <|b|>", "instruct contains the control token '<|b|>'"),
        ("--description", "\udcff", "description is not valid UTF-8"),
    ],
)
def test_words_that_no_manifest_may_hold_are_refused(
    run: Run, library: Path, sound: Callable[..., Path], option: str, value: str, complaint: str
) -> None:
    code, _, err = run("add", "one", sound(tone()), option, value)
    assert (code, complaint in err, list(library.iterdir())) == (1, True, [])


def test_a_language_that_no_checkpoint_speaks_is_refused(run: Run, sound: Callable[..., Path]) -> None:
    for number, language in enumerate(("english", "German", "zh-CN", "auto", "PT")):
        assert run("add", f"v{number}", sound(tone()), "--text", TEXT, "--language", language)[2] == ""
    code, _, err = run("add", "k", sound(tone()), "--text", TEXT, "--language", "Klingon")
    assert (code, "language 'klingon' is not one of auto, chinese" in err) == (1, True)


# One step.


def test_a_server_that_looks_while_a_voice_is_made_sees_nothing_until_it_is_whole(library: Path) -> None:
    server, seen = voice_library.VoiceLibrary(library), []

    def slowly(path: Path) -> None:
        seen.append((server.names(), server.check(), path.is_relative_to(library)))
        write_recording(path, tone()[:, 0])
        seen.append((server.names(), server.check(), path.is_file()))

    VoiceDirectory(library).add("one", {"name": "One", "reference_audio": "reference.wav"}, slowly)
    assert seen == [([], {}, True)] * 2
    voice = server.get("one")
    assert voice is not None
    assert voice.reference is not None
    assert [path.name for path in library.iterdir()] == ["one"]
    assert (library / "one").stat().st_mode & 0o777 == library.stat().st_mode & 0o777


@pytest.mark.parametrize("failure", [CommandFailed("disk"), OSError("disk"), KeyboardInterrupt()])
def test_what_fails_or_is_interrupted_half_way_leaves_nothing(library: Path, failure: BaseException) -> None:
    def break_off(path: Path) -> None:
        path.write_bytes(b"half")
        raise failure

    with pytest.raises((CommandFailed, KeyboardInterrupt)):
        VoiceDirectory(library).add("one", {"name": "One", "reference_audio": "reference.wav"}, break_off)
    assert list(library.iterdir()) == []


def test_a_voice_that_a_server_could_not_read_is_never_there(library: Path) -> None:
    with pytest.raises(CommandFailed, match=r"not added: .*lasts 0\.00 s"):
        VoiceDirectory(library).add(
            *("one", {"name": "One", "reference_audio": "reference.wav"}),
            lambda path: write_recording(path, np.zeros(0, np.float32)),
        )
    assert list(library.iterdir()) == []


def test_of_two_that_add_one_id_at_once_the_first_stays(library: Path) -> None:
    directory, manifest = VoiceDirectory(library), {"name": "One", "reference_audio": "reference.wav"}

    def overtaken(path: Path) -> None:
        directory.add("one", {**manifest, "name": "First"}, lambda path: write_recording(path, tone()[:, 0]))
        write_recording(path, tone()[:, 0])

    with pytest.raises(CommandFailed, match="'one' was not added"):
        directory.add("one", manifest, overtaken)
    assert [path.name for path in library.iterdir()] == ["one"]
    assert manifests.read_manifest(library / "one").name == "First"
