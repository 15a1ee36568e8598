"""What can be read at one sitting: how long files and functions are, what they are called, and that they say what
they are. Tests and measurements are read as often as what they are about, and keep the same measure."""

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.sources import COMMANDS, EVERYTHING, FRONTEND, VERSION, name_of, tree_of

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
NO_RESPONSIBILITY = {"utils", "helpers", "common", "base", "core", "manager", "handler", "misc"}
# Shell, and a few lines of Python that start a command; the page; what runs in containers.
OTHER_LANGUAGES = {".css", ".html", ".js", ".mjs", ".sh"}
PLACES = ("benchmarks", "deploy", "docs", "frontend", "scripts", "tests", "voices")
SCRIPTS = sorted(p for place in ("scripts", ".ci") for p in (REPOSITORY / place).iterdir() if p.is_file())
NO_PYTHON = SCRIPTS + sorted(
    p for place in PLACES for p in (REPOSITORY / place).rglob("*") if p.suffix in OTHER_LANGUAGES and p.is_file()
)
MAX_LINE_CHARS = 120


def test_the_walk_sees_every_folder() -> None:
    names = {name_of(path) for path in EVERYTHING + NO_PYTHON}
    assert {"model_repository/qwen3_tts/1/model.py", "frontend/app.py", "scripts/commands/render.py"} <= names
    assert {"benchmarks/peers.py", "tests/conftest.py", "tests/engine/test_pace.py"} <= names
    assert {"scripts/serve", ".ci/run", "tests/stack/clients_environment.sh"} <= names
    assert {"frontend/static/app.js", "frontend/static/style.css", "frontend/static/index.html"} <= names


def test_no_file_is_named_for_having_no_responsibility() -> None:
    assert not [name_of(path) for path in EVERYTHING if NO_RESPONSIBILITY & set(path.stem.split("_"))]
    assert not [
        name_of(folder)
        for place in (VERSION, FRONTEND, COMMANDS)
        for folder in place.rglob("*/")
        if NO_RESPONSIBILITY & set(folder.name.split("_"))
    ]


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_files_and_functions_can_be_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {function.name: (function.end_lineno or 0) - function.lineno + 1 for function in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", NO_PYTHON, ids=name_of)
def test_files_in_other_languages_can_be_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", sorted((FRONTEND / "static").glob("*.js")), ids=name_of)
def test_a_module_of_the_page_says_what_it_is_and_keeps_its_lines_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("// "), "a module opens with what it is and what it does not know"
    assert [number for number, line in enumerate(lines, 1) if len(line) > MAX_LINE_CHARS] == []


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_a_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), "a module opens with what it is and what it does not know"
