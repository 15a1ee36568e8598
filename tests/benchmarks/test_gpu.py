"""benchmarks/gpu.py: each part has its time, its output stays, and what went wrong is named. Tried on the CPU."""

from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu import Part, run
from tests.benchmarks.conftest import Left


def test_a_part_runs_and_its_output_stays(tmp_path: Path, left: Left) -> None:
    assert gpu.main([str(tmp_path), "--device", "cpu", "--smoke", "--only", "tests"]) == 0
    [row] = left(tmp_path)["rows"]
    assert (row["part"], row["outcome"]) == ("tests", "done")
    assert " passed" in (tmp_path / "tests.log").read_text()


def test_a_part_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    row = run(Part("wrong", ("benchmarks.engine", "--smoke", "--batches", "0"), (), 1), tmp_path, 60)
    assert row["outcome"] == "failed with 2"
    assert row["remark"] == "wrong.log ends: benchmark engine: a batch must be at least 1, got 0"


def test_a_part_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    endless = Part("endless", ("http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), "0"), (), 1)
    row = run(endless, tmp_path, 1)
    assert row["outcome"] == "ran out of time"
    assert row["took_s"] < 30
    assert not [name for name in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in read(name)]


def read(path: Path) -> bytes:
    """A process's command line; nothing when it has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_part_whose_packages_are_missing_names_them(tmp_path: Path) -> None:
    row = run(Part("lacking", ("benchmarks.engine",), ("torch", "no_such_package"), 1), tmp_path, 60)
    assert (row["outcome"], row["remark"]) == ("not run", "not installed: no_such_package")


def test_packages_the_engine_hardly_needs_may_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    there = gpu._is_there
    monkeypatch.setattr(gpu, "_is_there", lambda name: there(name) and name not in gpu._DISPENSABLE)
    arguments = ("--smoke", "--doors", "engine", "--device", "cpu", "--out", str(tmp_path))
    row = run(Part("bare", ("benchmarks.serving", *arguments), gpu._ENGINE, 1), tmp_path, 120)
    assert row["outcome"] == "done", row["remark"]
    assert left(tmp_path)["rows"][0]["errors"] == 0


def test_the_tests_that_need_a_card_are_asked_for_by_their_mark() -> None:
    asked = gpu._tests(on_gpu=True)
    assert asked[-3:] == ("-m", "gpu", "tests/engine/test_gpu.py")
    assert (gpu.REPOSITORY / asked[-1]).is_file()


def test_all_parts_are_planned_for_less_than_ten_minutes(tmp_path: Path) -> None:
    options = gpu._arguments([str(tmp_path)])
    planned = [part.name for part in gpu.parts(options, tmp_path)]
    engines = ["engine-0.6b", "engine-1.7b"]
    assert planned == ["tests", "checkpoint-0.6b", *engines, "peers", "serving", "engine-0.6b-plain"]
    assert options.minutes < 10


def test_each_part_has_its_share_of_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    planned = [Part("one", (), ("absent",), 1), Part("two", (), ("absent",), 2), Part("three", (), ("absent",), 1)]
    monkeypatch.setattr(gpu, "parts", lambda *_: planned)
    assert gpu.main([str(tmp_path), "--minutes", "4"]) == 0
    limits = [row["limit_s"] for row in left(tmp_path)["rows"]]
    assert limits == pytest.approx([60, 160, 240], abs=20)


def test_a_part_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([str(tmp_path), "--smoke", "--only", "tests,dance"]) == 2
    assert "no part is called dance" in capsys.readouterr().err


def test_without_time_left_a_part_is_not_begun(tmp_path: Path) -> None:
    row = run(Part("late", ("benchmarks.engine",), (), 1), tmp_path, -1)
    assert (row["outcome"], row["remark"]) == ("not run", "no time was left")
