"""The voices of this repository, and scripts/make_reference_recordings, which speaks them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import CommandFailed, reference_recordings, voices
from commands.render import Collector
from commands.voice_recording import trim_silence
from tests.commands.voices_at_hand import SHIPPED, TEXT, Run, padded, reference, tone
from tests.conftest import Demo
from tts_engine import Engine, EngineConfig, Speak, UnknownVoice, voice_library

# The voices.


def test_three_voices_are_shipped_and_every_kind_of_checkpoint_can_make_them() -> None:
    found = voice_library.VoiceLibrary(SHIPPED).check()
    assert {"makima"} < found.keys() == reference_recordings.SPEAKERS.keys()
    assert len(found) >= 3
    for voice in found.values():
        assert voice.manifest.speaker
        assert voice.manifest.instruct
        assert voice.reference is not None
        assert voice.reference.text
        assert voice.manifest.source == "synthesised with espeak-ng by scripts/make_reference_recordings"
        assert voice.manifest.licence
        assert voice.manifest.licence.startswith("CC0-1.0")
    for different in ("language", "speaker", "instruct", "reference_text"):
        assert len({getattr(voice.manifest, different) for voice in found.values()}) == len(found)


def test_the_shipped_voices_pass_their_own_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert voices.main(["check", "--voices", str(SHIPPED)]) == 0
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model_type", "size"),
    [("base", "0b6"), ("base", "1b7"), ("custom_voice", "0b6"), ("custom_voice", "1b7"), ("voice_design", "1b7")],
)
def test_every_voice_speaks_on_every_kind_of_checkpoint_and_a_new_one_on_base_at_once(
    demo: Demo, run: Run, library: Path, sound: Callable[..., Path], model_type: str, size: str
) -> None:
    shutil.copytree(SHIPPED, library, dirs_exist_ok=True)
    engine = Engine.load(demo(model_type=model_type, size=size), EngineConfig(), library, device="cpu", threads="1")
    engine.start()
    try:
        for name in reference_recordings.SPEAKERS:
            assert spoken(engine, name) == (name, "complete", None)
        with pytest.raises(UnknownVoice):
            spoken(engine, "anna")
        assert run("add", "anna", sound(tone()), "--text", TEXT)[0] == 0
        if model_type == "base":
            assert spoken(engine, "anna") == ("anna", "complete", None)
        listed = engine.describe()["voices"]
        assert listed == sorted([*reference_recordings.SPEAKERS, *(["anna"] if model_type == "base" else [])])
        assert run("remove", "anna", "--yes")[0] == 0
        with pytest.raises(UnknownVoice):
            spoken(engine, "anna")
    finally:
        engine.shutdown()


def spoken(engine: Engine, voice: str) -> tuple[object, str, object]:
    """The voice a short utterance was spoken in, how it ended, and its error."""
    collector = Collector()
    engine.submit(Speak(text="Hello there, everyone.", voice=voice, temperature=0, max_frames=3), collector)
    outcome = collector.rendered.result(timeout=60).outcome
    # Random weights seldom end within three frames; either end is a good one.
    return outcome.info["voice"], outcome.reason.replace("max_length", "complete"), outcome.error


@pytest.mark.parametrize("name", sorted(reference_recordings.SPEAKERS))
def test_a_shipped_recording_is_small_clean_and_trimmed(name: str) -> None:
    path = SHIPPED / name / "reference.wav"
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 24_000, 1)
    assert path.stat().st_size < 400_000
    assert 5 <= info.duration <= 8
    samples = soundfile.read(path, dtype="float32")[0]
    assert 20 * np.log10(np.abs(samples).max()) == pytest.approx(-3, abs=0.05)
    assert len(samples) - len(trim_silence(samples, 24_000)) < 0.03 * 24_000


# The command.


def espeak_is_the_one_that_made_them() -> bool:
    try:
        return reference_recordings.installed_version() == reference_recordings.MADE_WITH
    except CommandFailed:
        return False


@pytest.mark.skipif(not espeak_is_the_one_that_made_them(), reason="needs the espeak-ng that made them")
def test_the_same_espeak_ng_makes_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copies = shutil.copytree(SHIPPED, tmp_path / "voices", ignore=shutil.ignore_patterns("*.wav"))
    assert reference_recordings.main(["--voices", str(copies)]) == 0
    assert capsys.readouterr().err == ""
    for name in reference_recordings.SPEAKERS:
        assert (copies / name / "reference.wav").read_bytes() == (SHIPPED / name / "reference.wav").read_bytes()
    assert not list(copies.glob(".*"))


def synthesiser(tmp_path: Path, body: str, version: str = reference_recordings.MADE_WITH) -> Path:
    """A program that is called as espeak-ng is."""
    program = tmp_path / "speaker"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "speech: {version}  Data at: /" && exit\n{body}\n')
    program.chmod(0o755)
    return program


def test_what_is_spoken_is_the_manifests_transcript_in_the_voices_manner(
    tmp_path: Path, sound: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    copies = shutil.copytree(SHIPPED, tmp_path / "voices")
    spoken = sound(padded(tone(6.0), 0.5, 0.5), name="spoken.wav")
    program = synthesiser(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/asked\ncp {spoken} "${{10}}"', "9.9")
    before = (copies / "makima" / "reference.wav").read_bytes()
    assert reference_recordings.main(["liesel", "--voices", str(copies), "--synthesiser", str(program)]) == 0
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert asked[:6] == ["-v", "de+f2", "-s", "160", "-p", "65"]
    assert asked[10:] == ["--", reference(copies, "liesel").text]
    samples = reference(copies, "liesel").samples
    assert len(samples) / 24_000 == pytest.approx(6.2, abs=0.02)
    assert np.abs(samples).max() == pytest.approx(reference_recordings.PEAK, abs=1e-3)
    assert (copies / "makima" / "reference.wav").read_bytes() == before
    told = capsys.readouterr()
    assert told.out == f"{copies / 'liesel' / 'reference.wav'}\n"
    assert "warning: this is espeak-ng 9.9; 1.51 made the recordings" in told.err


@pytest.mark.parametrize(
    ("body", "complaint"),
    [("echo bad voice >&2; exit 1", "speaker failed: bad voice"), ("exit 0", "spoken.wav: no such file")],
)
def test_a_synthesiser_that_fails_leaves_the_recording_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, complaint: str
) -> None:
    copies = shutil.copytree(SHIPPED, tmp_path / "voices")
    before = (copies / "makima" / "reference.wav").read_bytes()
    program = synthesiser(tmp_path, body)
    assert reference_recordings.main(["makima", "--voices", str(copies), "--synthesiser", str(program)]) == 1
    err = capsys.readouterr().err
    assert (complaint in err, err.count("\n")) == (True, 1)
    assert (copies / "makima" / "reference.wav").read_bytes() == before
    assert not list(copies.glob(".*"))


def test_a_missing_synthesiser_is_said_with_the_way_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "espeak-ng"
    assert reference_recordings.main(["--synthesiser", str(missing)]) == 1
    assert capsys.readouterr().err == (
        f"make_reference_recordings: {missing} is not installed; on Debian: apt install espeak-ng\n"
    )


def test_a_folder_without_words_or_manifest_cannot_be_spoken(
    tmp_path: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = synthesiser(tmp_path, "exit 1")
    command = ["makima", "--voices", str(library), "--synthesiser", str(program)]
    assert reference_recordings.main(command) == 1
    (library / "makima").mkdir()
    (library / "makima" / "manifest.json").write_text('{"name": "x"}')
    assert reference_recordings.main(command) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "cannot read" in first
    assert "must have reference_audio and reference_text" in second


def test_a_voice_that_nobody_speaks_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as exit_:
        reference_recordings.main(["nobody"])
    assert exit_.value.code == 2
