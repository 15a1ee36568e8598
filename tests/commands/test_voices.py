"""scripts/voices list, check and remove: what is said of voices, and what is deleted."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import voices
from tests.commands.voices_at_hand import TEXT, Run, tone
from tts_engine import voice_library

# list.


def test_the_list_tells_how_each_voice_can_be_made_and_which_cannot(
    run: Run, library: Path, sound: Callable[..., Path]
) -> None:
    run("add", "b", sound(tone()), "--text", TEXT, "--speaker", "ryan", "--language", "en", "--name", "Bea")
    (library / "a").mkdir()
    (library / "c").mkdir()
    (library / "c" / "manifest.json").write_text('{"name": "Cee", "instruct": "Old."}')
    (library / "README.md").write_text("")
    code, out, err = run("list")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 3)
    assert lines[0].startswith("a: cannot be used: cannot read ")
    assert lines[1:] == [
        "b: Bea (en); reference 2.00 s with a transcript, speaker ryan",
        "c: Cee (auto); instruct",
    ]


def test_an_empty_library_lists_and_checks_as_nothing(run: Run) -> None:
    assert run("list") == run("check") == (0, "", "")


# check.


def test_good_voices_are_one_line_each(run: Run, sound: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        run("add", name, sound(tone()), "--text", TEXT, "--speaker", "ryan")
    assert run("check") == (0, "a: ok, reference_audio, speaker\nb: ok, reference_audio, speaker\n", "")
    assert run("check", "b") == (0, "b: ok, reference_audio, speaker\n", "")


def test_every_voice_is_checked_whatever_is_wrong_with_another(
    run: Run, library: Path, sound: Callable[..., Path]
) -> None:
    run("add", "good", sound(tone()), "--text", TEXT)
    for name, content in (
        ("Bad", '{"name": "x"}'),
        ("empty", '{"name": "x"}'),
        ("gone", '{"name": "x", "reference_audio": "x.wav"}'),
        ("markup", '{"name": "x", "instruct": "<|im_end|>"}'),
        ("latin", '{"name": "x", "instruct": "Old.", "language": "latin"}'),
        ("odd", "[]"),
    ):
        (library / name).mkdir()
        (library / name / "manifest.json").write_text(content)
    code, out, err = run("check")
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert (code, err, len(lines)) == (1, "", 7)
    assert lines.pop("good") == "ok, reference_audio"
    assert all(line.startswith("cannot be used: ") for line in lines.values())
    assert "no checkpoint can make it" in lines["empty"]
    assert "x.wav" in lines["gone"]
    assert "control token" in lines["markup"]
    assert "language 'latin' is not one of" in lines["latin"]
    assert run("check", "good")[0] == 0
    assert run("check", "odd")[0] == 1


@pytest.mark.parametrize(
    ("text", "suspicious"),
    [
        ("Hi.", True),
        ("Hello there.", False),
        ("x" * 79, False),
        ("x" * 81, True),
        ("你好。", False),
        ("你" * 40, True),
        ("안녕하세요, 만나서 반갑습니다.", False),
        ("你好 hello there everyone", False),
    ],
)
def test_a_transcript_that_cannot_fit_the_recording_is_warned_of(
    run: Run, sound: Callable[..., Path], text: str, suspicious: bool
) -> None:
    run("add", "one", sound(tone()), "--text", text)
    code, out, _ = run("check")
    assert code == 0
    assert ("warning: the transcript has" in out) == suspicious
    assert out.count("\n") == 1


def test_everything_suspicious_is_warned_of_on_the_voices_line(run: Run, library: Path) -> None:
    for name, amplitude in (("loud", 3.0), ("low", 0.01)):
        (library / name).mkdir()
        values = {"name": "x", "reference_audio": "r.flac", "reference_text": "x" * 90}
        (library / name / "manifest.json").write_text(json.dumps(values))
        soundfile.write(library / name / "r.flac", np.clip(tone(amplitude=amplitude), -1, 1), 24_000)
    (library / "words").mkdir()
    (library / "words" / "manifest.json").write_text('{"name": "x", "speaker": "y", "reference_text": "Hi."}')
    code, out, err = run("check")
    loud, low, words = out.splitlines()
    assert (code, err) == (0, "")
    assert loud.startswith("loud: warning: clipped: ")
    assert low.startswith("low: warning: quiet: it peaks at -40 dBFS")
    assert all("; warning: the transcript has 90 characters for 2.0 s, 45.0 a second" in line for line in (loud, low))
    assert words == "words: warning: it has a reference_text, but no reference_audio"


def test_a_voice_that_is_not_there_cannot_be_checked(run: Run) -> None:
    for name in ("none", "../voices", "."):
        code, out, err = run("check", name)
        assert (code, out, "has no voice" in err) == (1, "", True)


# remove.


def test_a_voice_is_removed_whole_and_alone(run: Run, library: Path, sound: Callable[..., Path]) -> None:
    for name in ("one", "two"):
        run("add", name, sound(tone()), "--text", TEXT)
    server = voice_library.VoiceLibrary(library)
    assert list(server.check()) == ["one", "two"]
    assert run("remove", "one", "--yes") == (0, "one is removed\n", "")
    assert [path.name for path in library.iterdir()] == ["two"]
    assert server.get("one") is None


@pytest.mark.parametrize(
    ("answer", "removed"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_without_yes_the_user_is_asked(
    run: Run, library: Path, sound: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, answer: str, removed: bool
) -> None:
    run("add", "one", sound(tone()))
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    code, out, err = run("remove", "one")
    assert f"Delete {library / 'one'} (manifest.json, reference.wav)? [y/N]" in out
    assert code == (0 if removed else 1)
    assert (library / "one").is_dir() != removed
    assert ("one was kept" in err) != removed


def test_what_is_no_voice_is_never_removed(run: Run, library: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "manifest.json").write_text('{"name": "x"}')
    (library / "linked").symlink_to(tmp_path / "outside")
    (library / "plain").mkdir()
    (library / "plain" / "diary.txt").write_text("dear")
    shutil.copytree(tmp_path / "outside", library / "deep")
    (library / "deep" / "more").mkdir()
    shutil.copytree(tmp_path / "outside", library / "Named")
    (library / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for name in ("linked", "plain", "deep", "Named", "file", "none", "", ".", "..", "../outside", "deep/more", "deep/"):
        code, out, err = run("remove", name, "--yes")
        assert (code, out, err.count("\n")) == (1, "", 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_voice_can_be_removed_and_a_link_in_it_is_not_followed(
    run: Run, library: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (library / "one").mkdir()
    (library / "one" / "manifest.json").write_text("{")
    (library / "one" / "link").symlink_to(tmp_path / "precious")
    assert run("remove", "one", "--yes")[0] == 0
    assert (tmp_path / "precious" / "file").is_file()
    assert list(library.iterdir()) == []


# Usage.


@pytest.mark.parametrize("arguments", [(), ("fly",), ("add",), ("add", "one"), ("remove",), ("list", "one")])
def test_wrong_usage_is_2(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2


def test_a_missing_directory_is_said_in_one_line(
    tmp_path: Path, sound: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["list"], ["check"], ["add", "one", str(sound(tone()))], ["remove", "one", "--yes"]):
        assert voices.main([*arguments, "--voices", str(tmp_path / "none")]) == 1
        assert capsys.readouterr().err == f"voices: the voices directory {tmp_path / 'none'} does not exist\n"


def test_the_directory_is_the_servers_unless_another_is_named(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QWEN3_TTS_VOICES", str(library))
    assert (voices.main(["list"]), capsys.readouterr().out) == (0, "")
    monkeypatch.delenv("QWEN3_TTS_VOICES")
    assert (voices.main(["list"]), "makima: Makima" in capsys.readouterr().out) == (0, True)
