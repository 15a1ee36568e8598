"""benchmarks/gpu.py: each part has its time, its output stays, and what went wrong is named. Tried on the CPU."""

from pathlib import Path

from benchmarks import gpu
from benchmarks.gpu import Part, run
from tests.benchmarks.conftest import Left


def test_a_part_runs_and_its_output_stays(tmp_path: Path, left: Left) -> None:
    assert gpu.main([str(tmp_path), "--device", "cpu", "--smoke", "--only", "tests"]) == 0
    [row] = left(tmp_path)["rows"]
    assert (row["part"], row["outcome"]) == ("tests", "done")
    assert " passed" in (tmp_path / "tests.log").read_text()


def test_a_part_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    row = run(Part("wrong", ("benchmarks.engine", "--smoke", "--batches", "0"), (), 60), tmp_path, 60)
    assert row["outcome"] == "failed with 2"
    assert row["remark"] == "wrong.log ends: benchmark engine: a batch must be at least 1, got 0"


def test_a_part_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    endless = Part("endless", ("http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), "0"), (), 60)
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
    row = run(Part("lacking", ("benchmarks.engine",), ("torch", "no_such_package"), 60), tmp_path, 60)
    assert (row["outcome"], row["remark"]) == ("not run", "not installed: no_such_package")


def test_all_parts_fit_into_ten_minutes(tmp_path: Path) -> None:
    options = gpu._arguments([str(tmp_path)])
    planned = list(gpu.parts(options))
    assert [part.name for part in planned] == ["tests", "engine-0.6b", "engine-1.7b", "peers", "serving"]
    assert options.minutes < 10
    assert all(part.limit < 60 * options.minutes for part in planned)


def test_without_time_left_a_part_is_not_begun(tmp_path: Path) -> None:
    row = run(Part("late", ("benchmarks.engine",), (), 60), tmp_path, -1)
    assert (row["outcome"], row["remark"]) == ("not run", "no time was left")
