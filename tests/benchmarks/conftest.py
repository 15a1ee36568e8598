"""Reads what a benchmark left and checks what all of them promise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Left = Callable[[Path], dict[str, Any]]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def left() -> Left:
    """The one result in a folder, whole: JSON with machine and versions, a table with its columns, a PNG."""

    def read(folder: Path) -> dict[str, Any]:
        [path] = folder.glob("*.json")
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert kept["benchmark"] == path.stem
        assert kept["machine"]["cpu"]
        assert kept["versions"]["torch"]
        assert kept["settings"]
        table = [line for line in path.with_suffix(".md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
        assert len(table) == len(kept["rows"]) + 2
        assert {line.count(" | ") for line in table} == {len(kept["columns"]) - 1}
        assert path.with_suffix(".png").read_bytes().startswith(PNG_SIGNATURE)
        return kept

    return read
