"""What every benchmark leaves behind: figures with their machine, a table, a chart."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.charts import Chart, Panel
from benchmarks.results import Results, redraw, write
from benchmarks.tables import cell, heading, markdown_table

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ROWS = [
    {"batch": 1, "what": "talker", "step_ms": 12.3456, "kept": [12.0, 13.0]},
    {"batch": 8, "what": "talker", "step_ms": 20.0},
    {"batch": 1, "what": "codec", "step_ms": None},
]
RESULTS = Results("sample", {"dtype": "float32", "batches": [1, 8]}, ("batch", "what", "step_ms"), ROWS, ("A note.",))
LINES = Panel("time", "batch", ("step_ms",), "batch (rows)", "time (ms)", by="what", log_x=True, line=(80.0, "limit"))
BARS = Panel("time", "what", ("step_ms",), "part", "time (ms)", kind="bars", where={"batch": 1})
STACKED = Panel("time", "batch", ("step_ms",), "batch", "time (ms)", kind="stacked", where={"what": "talker"})
CHART = Chart("A sample", (LINES, BARS, STACKED))


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Path]:
    return {path.suffix: path for path in write(RESULTS, tmp_path / "made" / "here", CHART)}


def read(path: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def test_the_json_holds_the_rows_and_what_they_were_measured_on(written: dict[str, Path]) -> None:
    kept = read(written[".json"])
    assert kept["rows"] == ROWS
    assert kept["settings"] == RESULTS.settings
    assert kept["machine"]["cores"] >= 1
    assert kept["machine"]["cpu"]
    assert kept["machine"]["memory_gib"] > 0
    assert {"python", "torch", "numpy", "nvidia-pytriton", "project"} <= kept["versions"].keys()
    assert kept["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert kept["command"]
    assert kept["date"].endswith("+00:00")


def test_the_table_holds_the_columns_the_notes_and_the_machine(written: dict[str, Path]) -> None:
    lines = written[".md"].read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# A sample"
    assert lines[2:6] == ["| batch | what | step (ms) |", "| --- | --- | --- |", "| 1 | talker | 12.3 |", lines[5]]
    assert lines[6] == "| 1 | codec | – |"
    assert "A note." in lines
    machine = read(written[".json"])["machine"]
    assert any(line.startswith("- machine:") and machine["cpu"] in line for line in lines)


def test_the_chart_is_a_png_of_a_legible_size(written: dict[str, Path]) -> None:
    image = written[".png"].read_bytes()
    assert image.startswith(PNG_SIGNATURE)
    width, height = int.from_bytes(image[16:20]), int.from_bytes(image[20:24])
    assert width > 3 * 500
    assert height > 400


def test_table_and_chart_can_be_made_again_from_the_json_alone(written: dict[str, Path]) -> None:
    table = written[".md"].read_text(encoding="utf-8")
    for suffix in (".md", ".png"):
        written[suffix].unlink()
    assert redraw(written[".json"]) == [written[".md"], written[".png"]]
    assert written[".md"].read_text(encoding="utf-8") == table


def test_without_matplotlib_the_figures_are_kept_and_the_missing_chart_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert [path.suffix for path in write(RESULTS, tmp_path, CHART)] == [".json", ".md"]
    assert "matplotlib is not installed" in capsys.readouterr().err


def test_a_figure_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    bad = Results("bad", {}, ("x_ms",), [{"x_ms": float("nan")}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(bad, tmp_path, CHART)


def test_a_chart_without_rows_says_so(tmp_path: Path) -> None:
    made = write(Results("empty", {}, ("batch",), []), tmp_path, CHART)
    assert made[-1].read_bytes().startswith(PNG_SIGNATURE)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1234.5, "1,234"), (0.01234, "0.0123"), (12.0, "12.0"), (None, "–"), (True, "yes"), ("a|b", "a\\|b")],
)
def test_numbers_are_shown_to_three_digits(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_unit_stands_in_brackets() -> None:
    assert heading("first_audio_p95_ms") == "first audio p95 (ms)"
    assert heading("frames_per_s") == "frames/s"
    assert heading("batch") == "batch"
    assert markdown_table(("a_s",), [{"a_s": 2.0}]) == "| a (s) |\n| --- |\n| 2.00 |\n"
