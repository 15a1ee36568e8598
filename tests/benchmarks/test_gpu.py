"""benchmarks/gpu.py: each part has its time, its output stays, and what went wrong is named. Tried on the CPU."""

from pathlib import Path

import pytest

from benchmarks import gpu, gpu_parts
from benchmarks.gpu import run
from benchmarks.gpu_parts import CARD, PLAIN, Part
from tests.benchmarks.conftest import Left


def test_a_part_runs_and_its_output_stays(tmp_path: Path, left: Left) -> None:
    assert gpu.main([str(tmp_path), "--device", "cpu", "--smoke", "--only", "tests"]) == 0
    [row] = left(tmp_path)["rows"]
    assert (row["part"], row["outcome"]) == ("tests", "done")
    assert " passed" in (tmp_path / "tests.log").read_text()


def test_a_part_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    row = run(Part("wrong", ("benchmarks.engine", "--smoke", "--batches", "0"), (), 1), tmp_path, 60, {})
    assert row["outcome"] == "failed with 2"
    assert row["remark"] == "wrong.log ends: benchmark engine: a batch must be at least 1, got 0"


def test_a_part_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    endless = Part("endless", ("http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), "0"), (), 1)
    row = run(endless, tmp_path, 1, {})
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
    row = run(Part("lacking", ("benchmarks.engine",), ("torch", "no_such_package"), 1), tmp_path, 60, {})
    assert (row["outcome"], row["remark"]) == ("not run", "not installed: no_such_package")


def test_packages_the_engine_hardly_needs_may_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    there = gpu.is_there
    for home in (gpu, gpu_parts):
        monkeypatch.setattr(home, "is_there", lambda name: there(name) and name not in gpu_parts.DISPENSABLE)
    arguments = ("--smoke", "--doors", "engine", "--device", "cpu", "--out", str(tmp_path))
    row = run(Part("bare", ("benchmarks.serving", *arguments), gpu_parts._ENGINE, 1), tmp_path, 120, {})
    assert row["outcome"] == "done", row["remark"]
    assert left(tmp_path)["rows"][0]["errors"] == 0


def test_the_tests_that_need_a_card_are_asked_for_by_their_mark() -> None:
    asked = gpu_parts._tests(on_gpu=True)
    assert asked[-5:] == ("-m", "gpu", *gpu_parts.GPU_TESTS)
    files = (path for path in gpu.REPOSITORY.glob("tests/**/test_*.py") if path != Path(__file__).resolve())
    marked = {str(path.relative_to(gpu.REPOSITORY)) for path in files if "pytest.mark.gpu" in path.read_text()}
    assert marked == set(gpu_parts.GPU_TESTS)


def test_all_parts_are_planned_for_less_than_ten_minutes(tmp_path: Path) -> None:
    options = gpu._arguments([str(tmp_path)])
    planned = [part.name for part in gpu_parts.parts(options, tmp_path)]
    engines = ["engine-0.6b", "engine-1.7b"]
    assert planned == ["checkpoint-0.6b", CARD, "tests", *engines, "peers", "serving", PLAIN]
    assert options.minutes < 10


def test_each_part_has_its_share_of_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    planned = [Part("one", (), ("absent",), 1), Part("two", (), ("absent",), 2), Part("three", (), ("absent",), 1)]
    monkeypatch.setattr(gpu, "parts", lambda *_: planned)
    assert gpu.main([str(tmp_path), "--minutes", "4"]) == 0
    limits = [row["limit_s"] for row in left(tmp_path)["rows"]]
    assert limits == pytest.approx([55, 150, 220], abs=10)


def test_a_part_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([str(tmp_path), "--smoke", "--only", "tests,dance"]) == 2
    assert "no part is called dance" in capsys.readouterr().err


def test_without_time_left_a_part_is_not_begun(tmp_path: Path) -> None:
    row = run(Part("late", ("benchmarks.engine",), (), 1), tmp_path, -1, {})
    assert (row["outcome"], row["remark"]) == ("not run", "no time was left")


def test_what_fails_keeps_nothing_else_from_running_and_the_last_lines_say_how_all_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that cannot be imported, one that raises, one that dies of a signal, one that leaves half a result."""
    broken = tmp_path / "broken.json"
    planned = [
        Part("lost", ("benchmarks.no_such_module",), (), 1),
        Part("raises", ("timeit", "-n1", "-r1", "1 / 0"), (), 1),
        Part("killed", ("timeit", "-n1", "-r1", "import os; os.kill(os.getpid(), 11)"), (), 1),
        Part("broken", ("timeit", "-n1", "-r1", f"open({str(broken)!r}, 'w').write('{{')"), (), 1),
        Part("sound", ("timeit", "-n1", "-r1", "pass"), (), 1),
    ]
    monkeypatch.setattr(gpu, "parts", lambda *_: planned)
    assert gpu.main([str(tmp_path)]) == 1
    told = capsys.readouterr().out.splitlines()
    *lines, last = told[told.index("## how each part ended") + 1 :]
    assert [line.split(", ")[0] for line in lines] == [
        *("lost: failed with 1", "raises: failed with 1", "killed: failed with -11", "broken: done")
    ]
    assert last.startswith("sound: done")
    assert any("ZeroDivisionError" in line for line in told)
    assert any("cannot be read" in line for line in told)


def test_where_the_card_finds_that_kernels_fail_the_rest_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    found = '{"benchmark": "card", "settings": {"kernels": "off"}, "columns": [], "rows": [], "notes": []}'
    told = "import os; print('kernels', os.environ.get('QWEN3_TTS_KERNELS'))"
    planned = [
        Part("before", ("timeit", "-n1", "-r1", told), (), 1),
        Part(CARD, ("timeit", "-n1", "-r1", f"open({str(tmp_path / 'card.json')!r}, 'w').write({found!r})"), (), 1),
        Part("after", ("timeit", "-n1", "-r1", told), (), 1),
        Part(PLAIN, ("timeit", "-n1", "-r1", told), (), 1),
    ]
    monkeypatch.setattr(gpu, "parts", lambda *_: planned)
    monkeypatch.delenv("QWEN3_TTS_KERNELS", raising=False)
    assert gpu.main([str(tmp_path)]) == 0
    assert "kernels None" in (tmp_path / "before.log").read_text()
    assert "kernels off" in (tmp_path / "after.log").read_text()
    (tmp_path / "card.json").unlink()
    last = left(tmp_path)["rows"][-1]
    assert (last["outcome"], last["remark"]) == ("not run", "the others were without kernels too")


def test_one_who_ends_it_is_told_what_there_is(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    program = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            str(tmp_path),
            "--device",
            "cpu",
            "--smoke",
            "--only",
            "engine-0.6b,peers",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=gpu.REPOSITORY,
    )
    while not (tmp_path / "engine-0.6b.log").exists():
        assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    told, _ = program.communicate(timeout=60)
    assert program.returncode == 128 + signal.SIGTERM
    assert told.splitlines()[-1] == "peers: not begun"
