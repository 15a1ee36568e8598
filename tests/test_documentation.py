"""The documents against the repository: links lead somewhere, commands exist, and nothing stands there unrun unsaid.

Blocks of code are run by tests/stack/test_documentation.py, and those named there as run elsewhere, elsewhere.
"""

import ast
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from frontend.settings import PREFIX, Settings
from tests.conftest import REPOSITORY
from tests.documents import (
    DOCUMENTS,
    LANGUAGES,
    MARK,
    SHELL,
    Block,
    all_blocks,
    anchors,
    blocks,
    links,
    name_of,
    tokens,
)
from tests.stack.pasting import RUN_ELSEWHERE, pasted

WHAT_A_MACHINE_MAY_LACK = {"docker", "gpu", "kubernetes", "network"}
SCRIPTS = {path.name for path in (REPOSITORY / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK)}
A_COMMAND = re.compile(
    r"^(\$ |(\w+=\S+ )*(sudo |scripts/\w|docker |curl |kubectl |pip |apt|python3? |git ))", re.MULTILINE
)
MARKED = [block for block in all_blocks() if block.needs]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_into_the_repository_leads_somewhere(document: Path) -> None:
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = unquote(link).partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(REPOSITORY), link
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


def test_the_readme_leads_to_every_document() -> None:
    linked = {(REPOSITORY / link.partition("#")[0]).resolve() for link in links(REPOSITORY / "README.md")}
    assert set(DOCUMENTS) - linked == {REPOSITORY / "README.md"}


def test_the_readme_lists_every_command() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `scripts/(\w+)", text, re.MULTILINE)) == SCRIPTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"\bscripts/(\w+)\b(?![/.])", document.read_text(encoding="utf-8")))
    assert named - {"commands"} <= SCRIPTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_setting_of_the_frontend_that_is_named_exists(document: Path) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b", document.read_text(encoding="utf-8"))) <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_command_stands_in_a_block_that_says_it_is_one(document: Path) -> None:
    for block in blocks(document):
        assert block.language in SHELL or not A_COMMAND.search(block.source), block.place


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_what_a_block_needs_is_said_right_before_it(document: Path) -> None:
    marks = sum(len(MARK.findall(token.content)) for token in tokens(document) if token.type == "html_block")
    assert marks == sum(bool(block.needs) for block in blocks(document))
    assert {need for block in blocks(document) for need in block.needs} <= WHAT_A_MACHINE_MAY_LACK


def test_every_block_is_run_or_says_why_not() -> None:
    code = [block for block in all_blocks() if block.language in LANGUAGES]
    run = [block for block in code if block in pasted() or (block.document, block.heading) in RUN_ELSEWHERE]
    assert [block.place for block in code if block not in run and not block.needs] == []
    assert run


@pytest.mark.parametrize("place", RUN_ELSEWHERE, ids=" ".join)
def test_what_is_run_elsewhere_is_run_there(place: tuple[str, str]) -> None:
    assert any((block.document, block.heading) == place for block in all_blocks())
    file, _, function = RUN_ELSEWHERE[place].partition("::")
    source = (REPOSITORY / file).read_text(encoding="utf-8")
    names = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    assert function in names
    assert f'"{place[1]}"' in source


@pytest.mark.parametrize("block", MARKED, ids=lambda block: block.place)
def test_what_cannot_be_run_here_is_at_least_a_shell_s_and_has_known_options(block: Block) -> None:
    if block.language in SHELL:
        subprocess.run(["bash", "-n", "-c", block.source], check=True)
    for script, arguments in re.findall(r"scripts/(\w+)(.*)", block.source):
        assert script in SCRIPTS
        help_text = subprocess.run(
            [REPOSITORY / "scripts" / script, "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert set(re.findall(r"\s(--[\w-]+)", arguments)) <= set(re.findall(r"--[\w-]+", help_text))
