"""benchmarks/engine.py in its shortest form: what it measures and writes, never how fast that is."""

import argparse
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from benchmarks import engine, engine_runs
from benchmarks.engine_plan import fitting, plan_of
from benchmarks.engine_report import remarks
from benchmarks.parts import PARTS, Parts
from benchmarks.results import redraw
from tests.benchmarks.conftest import Left
from tests.conftest import Demo
from tts_engine import Acceleration
from tts_engine.checkpoint import Checkpoint


def options(**given: object) -> argparse.Namespace:
    usual = {"smoke": False, "quick": False, "batches": None, "context": None, "repeats": None}
    usual |= {"kernels": "auto", "tf32": "auto"}
    return argparse.Namespace(**{**usual, **given})


def test_everything_is_measured_beside_its_floor(demo: Demo, tmp_path: Path, left: Left) -> None:
    arguments = ["--smoke", "--device", "cpu", "--model", str(demo()), "--out", str(tmp_path)]
    assert engine.main(arguments) == 0
    kept = left(tmp_path)
    rows = kept["rows"]
    firsts = {"first frame, median": 2, "first frame, last": 1}
    assert Counter(row["what"] for row in rows) == {"frame step": 2, **dict.fromkeys(PARTS, 2), "prefill": 2, **firsts}
    for row in rows:
        assert row["measured_ms"] > 0
        assert row["floor_ms"] > 0
        assert row["ratio"] == pytest.approx(row["measured_ms"] / row["floor_ms"])
    assert {row["bound"] for row in rows if row["what"] in PARTS} <= {"memory", "compute"}
    assert kept["settings"]["read_gb_per_s"] > 0
    assert kept["settings"]["tflops_float32"] > 0
    steps = [row for row in rows if row["what"] == "frame step"]
    assert [row["batch"] for row in steps] == [1, 2]
    assert all(row[f"{part}_ms"] > 0 for row in steps for part in PARTS)


def test_what_fails_on_the_device_is_noted_and_the_rest_measured(
    demo: Demo, tmp_path: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory is left\nfor this")

    monkeypatch.setattr(Parts, "_decode", refuse)
    arguments = ["--smoke", "--device", "cpu", "--model", str(demo()), "--batches", "1", "--out", str(tmp_path)]
    assert engine.main(arguments) == 1
    kept = left(tmp_path)
    assert kept["notes"] == ["Not measured: codec at batch 1: no memory is left."]
    assert {"frame step", "talker", "predictor", "sampling", "prefill"} <= {row["what"] for row in kept["rows"]}


def test_what_is_measured_is_accelerated_as_a_server_is(
    demo: Demo, tmp_path: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[tuple[Acceleration, str]] = []

    def load(*_: object, **__: object) -> None:
        raise RuntimeError(f"loaded after {chosen[-1][0].kernels}")

    monkeypatch.setattr(Acceleration, "choose", lambda self, device, dtype: chosen.append((self, device.type)))
    monkeypatch.setattr(engine_runs, "load_networks", load)
    monkeypatch.setattr(engine_runs, "FirstFrames", Mock(side_effect=RuntimeError("no engine")))
    arguments = ["--smoke", "--device", "cpu", "--model", str(demo()), "--out", str(tmp_path), "--kernels", "off"]
    assert engine.main(arguments) == 1
    assert chosen == [(Acceleration("off", "auto"), "cpu")]
    assert left(tmp_path)["notes"][0] == "Not measured: the networks: loaded after off."


def test_what_was_measured_outlives_what_comes_after(
    demo: Demo, tmp_path: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_runs, "Parts", Mock(side_effect=KeyboardInterrupt))
    arguments = ["--smoke", "--device", "cpu", "--model", str(demo()), "--batches", "1", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        engine.main(arguments)
    [path] = tmp_path.glob("*.json")
    redraw(path)
    assert {row["what"] for row in left(tmp_path)["rows"]} == {"frame step", "prefill"}


def test_times_below_their_floor_are_called_worthless() -> None:
    assert remarks([{"ratio": 1.0}, {"ratio": 2.0}]) == []
    [remark] = remarks([{"ratio": 0.5}, {"ratio": 2.0}])
    assert "Of the times, 1 lie below their floor" in remark


def test_batches_that_do_not_fit_are_left_out(demo: Demo) -> None:
    plan = plan_of(options(batches="1,2,1000000000"), torch.device("cpu"), torch.float32)
    assert fitting(plan, Checkpoint.read(demo()), length=256) == (1, 2)


def test_a_gpu_is_measured_at_batches_up_to_256() -> None:
    plan = plan_of(options(), torch.device("cuda"), torch.bfloat16)
    assert plan.batches == (1, 2, 4, 8, 16, 32, 64, 128, 256)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--batches", "0"], "a batch must be at least 1, got 0"),
        (["--device", "tpu"], "device must be auto, cpu, cuda or cuda:N"),
        (["--model", "nowhere", "--device", "cpu"], "the checkpoint directory nowhere does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine.main(["--smoke", *arguments, "--out", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err
