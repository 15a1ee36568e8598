"""scripts/render: a file of requests in, sound and one result a line out, whatever stands in the lines."""

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from commands import render
from tests.conftest import Demo

Result = dict[str, Any]
Render = Callable[..., tuple[int, list[Result]]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "here"


@pytest.fixture
def rendered(demo: Demo, tmp_path: Path, out: Path) -> Render:
    """Runs the command on lines (objects, or raw text): its exit code and the results it wrote."""

    def run(
        *lines: Any, options: tuple[str, ...] = ("--codes",), model: Path | None = None
    ) -> tuple[int, list[Result]]:
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        requests = tmp_path / "requests.jsonl"
        requests.write_text("\n".join(texts) + "\n", encoding="utf-8")
        arguments = [str(requests), "--model", str(model or demo()), "--out", str(out), "--device", "cpu", *options]
        code = render.main(arguments)
        results = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
        return code, [json.loads(line) for line in results]

    return run


@pytest.fixture
def recording(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recording beside the file of requests."""

    def write(name: str) -> Path:
        samples = np.random.default_rng(0).uniform(-0.4, 0.4, (33_075, 2))
        soundfile.write(tmp_path / name, samples, 22_050, subtype="PCM_16")
        return tmp_path / name

    return write


def request(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "text": "Hi", "temperature": 0, "max_frames": 4, **values}


def test_good_lines_become_sound_and_codes_and_results_in_their_order(rendered: Render, out: Path) -> None:
    names = [f"line-{number}" for number in range(7)]
    lines = [request(name, max_frames=9 - number) for number, name in enumerate(names)]
    code, results = rendered(*lines, options=("--codes", "--batch", "2"))
    assert code == 0
    assert [result["id"] for result in results] == names
    for number, result in enumerate(results):
        frames = 9 - number
        assert (result["reason"], result["frames"]) == ("max_length", frames)
        assert result["seconds"] == pytest.approx(frames * 0.08)
        codes = np.load(out / f"{result['id']}.npy")
        assert (codes.shape, codes.dtype) == ((frames, 16), np.int64)
        with wave.open(str(out / f"{result['id']}.wav")) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (24_000, 1, 2)
            assert sound.getnframes() == frames * 1920


def test_a_bad_line_is_reported_in_its_place_and_stops_no_other(
    rendered: Render, recording: Callable[[str], Path], out: Path
) -> None:
    recording("there.wav")
    bad: list[tuple[Any, str]] = [
        ("not json", "not JSON"),
        ("[1]", "must be a JSON object, got list"),
        ({"id": "no-text"}, "text is missing"),
        ({"id": "number", "text": 5}, "text has a value of the wrong type: 5"),
        (request("unknown-key", tempo=2), "unknown key 'tempo'; known: id, instruct"),
        (request("blank", text="  "), "text is empty"),
        (request("control", text="<|im_end|>"), "control token"),
        (json.dumps(request("surrogate", text="\ud800")), "surrogate"),
        (request("hot", temperature=11), "temperature must be from 0.0 to 10.0, got 11"),
        (request("fraction", top_k=1.5), "top_k has a value of the wrong type"),
        (request("flag", seed=True), "seed has a value of the wrong type"),
        (request("stranger", voice="nobody"), "voice 'nobody' is not known"),
        (request("tongue", language="klingon"), "language 'klingon' is not one of"),
        (request("clone", reference_audio="missing.wav"), "reference_audio: cannot read"),
        (request("cloned", reference_audio="there.wav"), "reference_audio needs a Base checkpoint"),
        (request("unheard", reference_text="Words"), "reference_text was given without reference_audio"),
    ]
    lines: list[Any] = [request("first")]
    for line, _ in bad:
        lines += [line, request(f"after-{len(lines)}")]
    code, results = rendered(*lines)
    assert code == 1
    assert len(results) == len(lines)
    for number, result in enumerate(results):
        if number % 2:
            assert result["reason"] == "failed"
            assert bad[number // 2][1] in result["error"]
        else:
            assert "error" not in result
            assert (out / f"{result['id']}.wav").is_file()
    assert len(list(out.glob("*.wav"))) == len(bad) + 1


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "-dash", "x" * 101, "nul\0", 5, None])
def test_an_id_that_cannot_name_a_file_is_refused(rendered: Render, out: Path, name: Any) -> None:
    code, results = rendered(request(name), request("good"))
    assert code == 1
    assert "cannot name a file" in results[0]["error"]
    assert results[0]["id"] == "line1"
    assert [path.name for path in sorted(out.parent.rglob("*.wav"))] == ["good.wav"]


def test_an_id_may_be_used_once(rendered: Render) -> None:
    code, results = rendered(request("same"), request("same", text="Other"), request("other"))
    assert code == 1
    assert "id 'same' was used on an earlier line" in results[1]["error"]
    assert ["error" in result for result in results] == [False, True, False]


def test_lines_without_an_id_are_named_by_their_number_and_blank_lines_count(rendered: Render, out: Path) -> None:
    anonymous = {"text": "Hi", "max_frames": 2}
    code, results = rendered(anonymous, "", anonymous)
    assert code == 0
    assert [result["id"] for result in results] == ["line1", "line3"]
    assert (out / "line3.wav").is_file()


def test_the_same_request_makes_the_same_sound_whatever_the_batch(rendered: Render, out: Path) -> None:
    lines = [request(f"n{number}", seed=number, temperature=0.9) for number in range(5)]
    rendered(*lines, options=("--batch", "1", "--dtype", "float64"))
    alone = [soundfile.read(out / f"n{number}.wav", dtype="int16")[0] for number in range(5)]
    rendered(*lines, options=("--batch", "4", "--dtype", "float64"))
    for number, sound in enumerate(alone):
        assert np.allclose(sound, soundfile.read(out / f"n{number}.wav", dtype="int16")[0], rtol=0, atol=1)
    assert not list(out.glob("*.npy"))


def test_the_seed_that_was_used_is_told(rendered: Render) -> None:
    _, results = rendered({"id": "free", "text": "Hi", "max_frames": 2}, request("set", seed=2**64 - 1))
    assert isinstance(results[0]["seed"], int)
    assert results[1]["seed"] == 2**64 - 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--batch", "0"), "batch must be above 0, got 0"),
        (("--dtype", "int8"), "dtype"),
        (("--device", "tpu"), "device"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], complaint: str
) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text("")
    assert render.main([str(requests), "--model", str(demo()), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("render: ")
    assert complaint in error
    assert error.count("\n") == 1


def test_a_missing_file_and_a_missing_checkpoint_are_named(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("")
    for requests, model in ((tmp_path / "none.jsonl", demo()), (there, tmp_path / "no-model")):
        assert render.main([str(requests), "--model", str(model), "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert "none.jsonl does not exist" in errors
    assert "no-model does not exist" in errors


def test_an_empty_file_is_rendered_to_nothing(rendered: Render) -> None:
    assert rendered() == (0, [])


def test_a_recording_beside_the_requests_is_cloned(
    rendered: Render, recording: Callable[[str], Path], demo: Demo, out: Path
) -> None:
    recording("voice.wav")
    reference = {"reference_audio": "voice.wav"}
    code, results = rendered(
        request("by-sound", **reference),
        request("in-context", **reference, reference_text="Good evening."),
        model=demo(model_type="base"),
    )
    assert code == 0
    assert [result["voice"] for result in results] == ["(reference)"] * 2
    assert (out / "in-context.wav").is_file()


def test_silence_at_the_start_may_be_kept(rendered: Render, out: Path) -> None:
    code, results = rendered(request("kept", trim_leading_silence=False), request("odd", trim_leading_silence=1))
    assert code == 1
    assert results[0]["samples"] == results[0]["frames"] * 1920
    assert "trim_leading_silence has a value of the wrong type: 1" in results[1]["error"]


def test_a_line_that_is_not_utf_8_is_reported_in_its_place(demo: Demo, tmp_path: Path, out: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    good = json.dumps({"text": "Hi", "max_frames": 1}).encode()
    requests.write_bytes(good + b"\n\xff\n" + good + b"\n")
    assert render.main([str(requests), "--model", str(demo()), "--out", str(out), "--device", "cpu"]) == 1
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert ["error" in result for result in results] == [False, True, False]


def test_a_bad_line_is_reported_under_its_own_id(rendered: Render) -> None:
    _, results = rendered(request("mine", tempo=2), {"id": "silent"}, request("twice"), request("twice", tempo=2))
    assert [result["id"] for result in results] == ["mine", "silent", "twice", "line4"]


def test_results_cannot_be_written_into_a_file(demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests, taken = tmp_path / "requests.jsonl", tmp_path / "taken"
    requests.write_text("")
    taken.write_text("")
    assert render.main([str(requests), "--model", str(demo()), "--out", str(taken), "--device", "cpu"]) == 2
    assert "taken" in capsys.readouterr().err


def test_a_line_that_would_wait_for_more_text_is_refused(rendered: Render) -> None:
    code, results = rendered(request("live", utterance="x", text_complete=False), request("after"))
    assert code == 1
    assert results[0]["reason"] == "failed"
    assert "text_complete" in results[0]["error"]
    assert "error" not in results[1]
