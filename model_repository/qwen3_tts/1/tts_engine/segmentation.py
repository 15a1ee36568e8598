"""Long text in portions that one generation can carry, cut where a speaker would breathe.

Sentence ends come from sentencex, which knows the abbreviations and quotation marks of each language. Only a
sentence too long by itself is cut inside: where one within its quotation ends, else at a clause, else between words,
else between characters.
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
# Spaces of more than one byte make sentencex slice within a character, which aborts it.
_PLAIN_SPACES = {code: " " for code in range(0x80, 0x3001) if chr(code).isspace()}
# What sentencex takes for an end although nobody stops there: initials and abbreviations of single letters ("M.",
# "т. е."), of references and addresses, before a number or a name.
_ABBREVIATION = re.compile(
    r"(?:^|[\W\d_])(?:[^\W\d_]|dr|mr|mrs|ms|mme|mlle|sra?|dra|sig|dott|prof|jr|inc|ltd|approx|art|ave|blvd|cap|cf|ch|col"
    r"|dept|ed|ee|eq|figs?|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|nos?|nr|nro|núm|p[aá]gg?|págs|pp|ref|rd|sec|st"
    r"|tel|vgl|bzw|usw|ca|vols?|\w*str|гг?|гл|рис|стр|тов|тыс|ул|см|руб|им)\.\s*$",
    re.IGNORECASE,
)
_CLOSED_QUOTATION = re.compile(r"[\"'”’»›“」』]\s*$")
# How a sentence goes on behind a quotation in scripts without capitals: particles of Japanese and Korean.
_QUOTING = re.compile(r"[とっはがをのにでもや]|(?:이?라|하)[고는며]|고\s")
_QUOTED_END = re.compile(r"[.!?…]+[\"'”’»]*\s+|[。！？]+[”’」』]*")
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
        if len(self._ids(text)) <= self._limit:
            return [self._segment(text, 0, len(text))]
        bounds = [0, *self._packed(text, self._pieces(text, language))]
        return [self._segment(text, a, b) for a, b in itertools.pairwise(bounds) if text[a:b].strip()]

    def _packed(self, text: str, piece_ends: Iterator[int]) -> Iterator[int]:
        """Ends of segments: pieces joined until one more would be too long, or stray further from an equal share."""
        start = end = length = 0
        share = self._share(text)
        for piece_end in piece_ends:
            longer = len(self._ids(text[start:piece_end]))
            if end > start and (longer > self._limit or longer - share > share - length):
                yield end
                start, share = end, self._share(text[end:])
                longer = len(self._ids(text[start:piece_end]))
            end, length = piece_end, longer
        yield end

    def _share(self, text: str) -> float:
        """The length of each of as few equal segments as will hold `text`."""
        total = len(self._ids(text))
        return total / -(-total // self._limit) if total else 0.0

    def _pieces(self, text: str, language: str) -> Iterator[int]:
        """Ends of the smallest portions worth keeping whole."""
        for start, end in _sentences(text, _CODES.get(language, "en")):
            yield from self._fitting(text, start, end, [_quoted_ends, _at(_CLAUSE), _at(_WORD), _characters])

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


def _quoted_ends(text: str) -> list[int]:
    """Ends of the sentences within a quotation, which is one sentence as a whole."""
    ends = [match.end() for match in _QUOTED_END.finditer(text)]
    return [end for end in ends if not _goes_on(text[:end], text[end : end + 8])]


def _characters(text: str) -> list[int]:
    """The middle: halving until it fits needs no knowledge of the script."""
    return [len(text) // 2]


def _sentences(text: str, code: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, spaces behind it included."""
    start = end = 0
    for sentence in sentencex.segment(code, text.translate(_PLAIN_SPACES)):
        end += len(sentence)
        if not _goes_on(text[start:end], text[end : end + 8]):
            yield start, end
            start = end
    if start < len(text):
        yield start, len(text)


def _goes_on(sentence: str, following: str) -> bool:
    """Whether what sentencex took for a sentence is not at its end: better a longer one than a pause in its middle."""
    if "\n" in sentence[len(sentence.rstrip()) :]:
        return False
    following = following.lstrip()
    if _CLOSED_QUOTATION.search(sentence):
        return following[:1].islower() or bool(_QUOTING.match(following))
    if not sentence.rstrip().endswith("."):
        return False
    return bool(_ABBREVIATION.search(sentence)) or following[:1].islower() or following[:1].isdigit()
