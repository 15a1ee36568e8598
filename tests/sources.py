"""The files of this repository that people read, and their syntax trees. Knows nothing of what they say."""

import ast
from functools import cache
from pathlib import Path

from tests.conftest import REPOSITORY

VERSION = REPOSITORY / "model_repository" / "qwen3_tts" / "1"
ENGINE, FRONTEND, COMMANDS = VERSION / "tts_engine", REPOSITORY / "frontend", REPOSITORY / "scripts" / "commands"
SOURCES = sorted(p for place in (VERSION, FRONTEND, COMMANDS) for p in place.rglob("*.py"))
"""What is installed where the product runs."""
EVERYTHING = SOURCES + sorted(p for place in ("benchmarks", "tests") for p in (REPOSITORY / place).rglob("*.py"))
"""All Python of this repository."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))
