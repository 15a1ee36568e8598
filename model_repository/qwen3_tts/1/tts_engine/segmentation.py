"""Long text in portions that one generation can carry, cut where a speaker would breathe.

Sentence ends come from sentencex, which knows the abbreviations and quotation marks of each language. Only a
sentence too long by itself is cut inside: at a clause, else between words, else between characters.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sentencex

from .text import TextTokenizer

_CODES = {
    "chinese": "zh",
    "english": "en",
    "german": "de",
    "italian": "it",
    "portuguese": "pt",
    "spanish": "es",
    "japanese": "ja",
    "korean": "ko",
    "french": "fr",
    "russian": "ru",
}
# sentencex takes some one- and two-letter abbreviations ("M.", "т. е.") for sentence ends; no sentence ends so.
_ABBREVIATION = re.compile(r"(?:^|[\s\"'(«„“])(?:\w\.)*\w{1,2}\.\s*$")
_CLAUSE = re.compile(r"(?<=[,;:，；：、،])\s+|(?<=[，；：、])|(?<=\s[–—-])\s+")
_WORD = re.compile(r"(?<=\S)\s+(?=\S)")


@dataclass(frozen=True)
class Segment:
    """A portion of a text: what is spoken, where it stands in the text (characters), and its ids."""

    text: str
    start: int
    end: int
    ids: tuple[int, ...]


class Segmenter:
    """Cuts texts into segments of at most `limit` tokens."""

    def __init__(self, tokenizer: TextTokenizer, limit: int) -> None:
        self._tokenizer, self._limit = tokenizer, limit

    def cut(self, text: str, language: str) -> list[Segment]:
        """The segments of `text`, which is not blank; together they hold every character that is not space.

        language: a full name, or auto. Segments are of about equal length, and one where that is enough.
        """
        total = len(self._ids(text))
        if total <= self._limit:
            return [self._segment(text, 0, len(text))]
        portions = -(-total // self._limit)
        aim = total / portions
        ends, start, end = [], 0, 0
        for piece_end in self._pieces(text, language):
            length = len(self._ids(text[start:piece_end]))
            if end > start and (length > self._limit or len(self._ids(text[start:end])) >= aim):
                ends.append(end)
                start = end
            end = piece_end
        ends.append(end)
        starts = [0, *ends[:-1]]
        return [self._segment(text, a, b) for a, b in zip(starts, ends, strict=True) if text[a:b].strip()]

    def _pieces(self, text: str, language: str) -> Iterator[int]:
        """Ends of the smallest portions worth keeping whole."""
        for start, end in _sentences(text, _CODES.get(language, "en")):
            yield from self._fitting(text, start, end, [_at(_CLAUSE), _at(_WORD), _characters])

    def _fitting(self, text: str, start: int, end: int, cuts: list[_Cut]) -> Iterator[int]:
        """Ends of portions of text[start:end] that fit the limit, cut no finer than need be."""
        if len(self._ids(text[start:end])) <= self._limit or end - start <= 1:
            yield end
            return
        bounds = [start, *(start + offset for offset in cuts[0](text[start:end])), end]
        finer = cuts[1:] or cuts
        for left, right in itertools.pairwise(bounds):
            if left < right:
                yield from self._fitting(text, left, right, finer)

    def _segment(self, text: str, start: int, end: int) -> Segment:
        spoken = text[start:end].strip()
        start += len(text[start:end]) - len(text[start:end].lstrip())
        return Segment(spoken, start, start + len(spoken), tuple(self._tokenizer.encode(spoken)))

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text.strip())


_Cut = Callable[[str], list[int]]


def _at(pattern: re.Pattern[str]) -> _Cut:
    return lambda text: [match.end() for match in pattern.finditer(text)]


def _characters(text: str) -> list[int]:
    """The middle: halving until it fits needs no knowledge of the script."""
    return [len(text) // 2]


def _sentences(text: str, code: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, spaces behind it included."""
    start = end = 0
    for sentence in sentencex.segment(code, text):
        end += len(sentence)
        if not _ABBREVIATION.search(text[start:end]):
            yield start, end
            start = end
    if start < len(text):
        yield start, len(text)
