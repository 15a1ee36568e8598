"""The documents as what they are made of: headings, links, and fenced blocks with what they need to be run.

A comment right before a block says what a machine must have for it, as in `<!-- needs: docker, gpu -->`; a block
without one is run by the tests. Runs nothing itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SHELL = ("bash", "sh")
LANGUAGES = (*SHELL, "python", "javascript")
"""Those of blocks that can be run."""
MARK = re.compile(r"<!-- needs: ([\w ,-]+) -->")


@dataclass(frozen=True)
class Block:
    document: str
    heading: str
    line: int
    language: str
    source: str
    needs: frozenset[str]

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def name_of(document: Path) -> str:
    return str(document.relative_to(REPOSITORY))


@cache
def tokens(document: Path) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8")))


def blocks(document: Path) -> list[Block]:
    """All fenced blocks, in their order."""
    found, heading, before = [], "", None
    for token in tokens(document):
        if before is not None and before.type == "heading_open":
            heading = token.content
        if token.type == "fence":
            mark = MARK.search(before.content) if before is not None and before.type == "html_block" else None
            needs = frozenset(re.split(r"\s*,\s*", mark[1])) if mark else frozenset()
            line = (token.map or [0])[0] + 1
            found.append(Block(name_of(document), heading, line, token.info.strip(), token.content, needs))
        before = token
    return found


def all_blocks() -> list[Block]:
    return [block for document in DOCUMENTS for block in blocks(document)]


def links(document: Path) -> Iterator[str]:
    """Where the links and pictures of a document lead."""
    for token in tokens(document):
        for child in token.children or ():
            if target := child.attrGet("href") or child.attrGet("src"):
                yield str(target)


def anchors(document: Path) -> set[str]:
    """The fragments by which a forge lets the headings of a document be named."""
    found: list[str] = []
    for opening, inline in zip(tokens(document), tokens(document)[1:], strict=False):
        if opening.type == "heading_open":
            words = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)
