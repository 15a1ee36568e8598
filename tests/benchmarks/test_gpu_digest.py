"""benchmarks/gpu_digest.py: the essence of each part is short, and enough for somebody who sees nothing else."""

from pathlib import Path

from benchmarks import gpu_digest
from benchmarks import parts as step_parts
from benchmarks.charts import Chart
from benchmarks.gpu import _arguments
from benchmarks.gpu_digest import LIMITS, MOST_CHARACTERS, digest
from benchmarks.gpu_parts import parts
from benchmarks.results import Results, keep
from benchmarks.tables import Row

NOWHERE = Path("nowhere.log")
ABOVE_EACH, BELOW_ALL = 180, 35
"""Characters of the line above a part, and of its line at the end."""


def kept(folder: Path, name: str, rows: list[Row], notes: tuple[str, ...] = ()) -> Path:
    settings = {"read_gb_per_s": 3_000.0, "tflops_bfloat16": 790.0}
    return keep(Results(name, settings, ("what",), rows, notes), folder, Chart("A run", ()))


def test_a_step_shows_its_parts_beside_its_floor_in_one_line(tmp_path: Path) -> None:
    step = {"what": "frame step", "batch": 64, "measured_ms": 3.25, "floor_ms": 1.5, "ratio": 2.17}
    rows = [{**step, "talker_ms": 1.25}, {"what": "talker", "batch": 64, "measured_ms": 1.25}]
    told = digest(NOWHERE, [kept(tmp_path, "engine-random", rows, ("Not measured: codec at batch 1: no room.",))])
    head, columns, line, note = told.splitlines()
    assert head == "engine-random, read_gb_per_s 3,000, tflops_bfloat16 790"
    assert columns.split() == ["what", "batch", "measured", "floor", "ratio", "talker"]
    assert line.split() == ["frame", "step", "64", "3.25", "1.50", "2.17", "1.25"]
    assert note == "Not measured: codec at batch 1: no room."
    assert gpu_digest.PARTS == step_parts.PARTS


def test_all_that_the_engine_is_measured_at_fits(tmp_path: Path) -> None:
    step = {"measured_ms": 1234.5, "floor_ms": 1234.5, "ratio": 12.34, "audio_s_per_s": 1234.5}
    step |= {f"{part}_ms": 123.4 for part in step_parts.PARTS}
    rows: list[Row] = [{"what": "frame step", "batch": 2**n, "length": 200, **step} for n in range(9)]
    other = {"length": 500, "measured_ms": 1234.5, "floor_ms": 123.4, "ratio": 12.34}
    rows += [{"what": "prefill", "batch": 1 + n % 2 * 7, **other} for n in range(8)]
    rows += [{"what": "first frame, median", "batch": n, **other} for n in (1, 8, 32)]
    rows += [{"what": "first frame, last", "batch": n, **other} for n in (8, 32)]
    told = digest(Path("engine-1.7b.log"), [kept(tmp_path, "engine-random-1.7b-cuda-bfloat16-plain", rows)])
    assert len(told.splitlines()) == 2 + len(rows)


def test_a_load_shows_its_doors_and_not_what_follows_from_them(tmp_path: Path) -> None:
    rows = [{"door": "engine", "rate_per_s": 4.0, "errors": 0}, {"door": "tax: triton − engine", "rate_per_s": 4.0}]
    told = digest(NOWHERE, [kept(tmp_path, "serving", rows)])
    assert "engine" in told
    assert "tax" not in told


def test_tests_tell_what_failed_what_they_measured_and_how_many_passed(tmp_path: Path) -> None:
    log = tmp_path / "tests.log"
    log.write_text(
        "configfile: pyproject.toml\n..F\n    assert 1 == 2\nE       assert 1 == 2\n==== figures ====\n"
        "worst state: 1.0e-05\n==== short test summary info ====\nFAILED tests/a.py::test_it - assert\n"
        "1 failed, 2 passed in 3.00s\n"
    )
    assert digest(log, []).splitlines() == [
        "1 failed, 2 passed in 3.00s",
        "FAILED tests/a.py::test_it - assert",
        "E       assert 1 == 2",
        "worst state: 1.0e-05",
    ]


def test_tests_that_were_cut_short_tell_how_far_they_came(tmp_path: Path) -> None:
    log = tmp_path / "tests.log"
    log.write_text("tests/a.py::test_one PASSED [ 10%]\ntests/a.py::test_two FAILED [ 20%]\ntests/a.py::test_three ")
    assert digest(log, []).splitlines() == ["no end; 1 tests have passed", "tests/a.py::test_two FAILED [ 20%]"]


def test_results_that_cannot_be_read_are_named_beside_the_end_of_the_log(tmp_path: Path) -> None:
    log, broken = tmp_path / "serving.log", tmp_path / "serving.json"
    log.write_text("engine at 4/s\n")
    broken.write_text('{"benchmark": "serv')
    told = digest(log, [broken]).splitlines()
    assert told[0].startswith("its results cannot be read: JSONDecodeError")
    assert told[1:] == ["engine at 4/s"]


def test_a_part_that_left_nothing_shows_its_last_words_and_one_that_left_much_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "serving.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    assert digest(log, []).splitlines() == [f"line {number}" for number in range(92, 100)]
    assert digest(tmp_path / "absent.log", []) == ""
    log.write_text("\n".join(f"{number} {'long ' * 60}" for number in range(100)) + "\nwhy it failed")
    long = tmp_path / "peers.log"
    log.rename(long)
    assert digest(long, []).startswith("(peers.log has the rest) …")
    assert digest(long, []).endswith("why it failed")
    much = digest(log, [kept(tmp_path, "serving", [{"door": f"door {number}"} for number in range(900)])])
    assert LIMITS["serving"] < len(much) < LIMITS["serving"] + 50
    assert much.endswith("… (serving.log has the rest)")


def test_all_parts_together_and_how_they_ended_are_short_enough_for_one_message(tmp_path: Path) -> None:
    planned = [part.name for part in parts(_arguments([str(tmp_path)]), tmp_path)]
    told = sum(LIMITS.get(name.partition("-")[0], MOST_CHARACTERS) for name in planned)
    assert told + len(planned) * (ABOVE_EACH + BELOW_ALL) < 12_000
