"""The sentences that servers are loaded with: those of texts.txt, always the same ones in the same order.

Knows nothing of rates or servers.
"""

from pathlib import Path

_FILE = Path(__file__).with_name("texts.txt")
CHARACTERS_PER_SECOND = 15.0
"""How fast English is spoken, roughly: what turns a text's length into an expected duration."""


def sentences() -> tuple[str, ...]:
    """English sentences of 3 to 25 words; their sources stand in texts.txt."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def long_text(characters: int, start: int = 0) -> str:
    """Sentences one after the other, from number `start` on and round again, of at most so many characters."""
    every = sentences()
    text, number = every[start % len(every)], start + 1
    while len(text) + 1 + len(following := every[number % len(every)]) <= characters:
        text, number = f"{text} {following}", number + 1
    return text
