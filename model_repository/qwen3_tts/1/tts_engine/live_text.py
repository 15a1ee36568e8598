"""Text that arrives in pieces, tokenised as it comes: a token is given out only when nothing that may follow could
change it, so that however a text is cut, the ids are those of the text given at once.

Knows no utterances and no clock.
"""

from __future__ import annotations

import re
import unicodedata

from .errors import InvalidRequest
from .text import TextTokenizer, refuse_huge

# A vowel or final consonant of Hangul, and the few other characters of combining class 0, that normal form C may
# fuse with what stands before them (Unicode 15, NFC_Quick_Check=Maybe).
_MAY_FUSE = re.compile(
    "[\u09be\u09d7\u0b3e\u0b56\u0b57\u0bbe\u0bd7\u0cc2\u0cd5\u0cd6\u0d3e\u0d57\u0dcf\u0ddf\u102e"
    "\u1161-\u1175\u11a8-\u11c2\u1b35\U00011127\U0001133e\U00011357\U000114b0\U000114ba\U000114bd\U000115af"
    "\U00011930]"
)
_LONGEST_CONTROL_TOKEN = 64


class LiveText:
    """One text being written. Not safe for more than one thread at a time."""

    def __init__(self, tokenizer: TextTokenizer, limit: int) -> None:
        """limit: how many tokens the whole text may have."""
        self._tokenizer, self._limit = tokenizer, limit
        self._given = 0
        self._tail = ""
        self._recent = ""

    def append(self, text: str) -> list[int]:
        """Take more text; returns the ids that have become certain.

        Raises InvalidRequest, and takes nothing, when the text would contain a control token or be too long.
        """
        refuse_huge(self._tail + text, "text", self._limit - self._given)
        recent = self._recent + text
        self._tokenizer.refuse_control_tokens(recent, "text")
        tail = self._tail + text
        if not self._given:
            tail = tail.lstrip()
        normal = unicodedata.normalize("NFC", tail)
        total = self._given + len(self._tokenizer.encode(normal))
        if total > self._limit:
            raise InvalidRequest(f"text has {total} tokens; the limit is {self._limit}")
        certain = self._certain(tail, normal)
        ids = self._tokenizer.encode(normal[:certain]) if certain else []
        self._recent, self._tail = recent[-_LONGEST_CONTROL_TOKEN:], normal[certain:]
        self._given += len(ids)
        return ids

    def finish(self) -> list[int]:
        """The text is complete; returns the ids that were held back. A blank text has none at all."""
        rest, self._tail = self._tail.rstrip(), ""
        return self._tokenizer.encode(rest) if rest else []

    def _certain(self, tail: str, normal: str) -> int:
        """How much of the tail's normal form stays as it is, and stays cut as it is, whatever follows."""
        unsure = min(_fusible_end(tail), len(normal.rstrip()))
        starts = self._tokenizer.pieces(normal)
        if not starts:
            return 0
        unsure = min(unsure, starts[-1])
        # The piece that reaches into the unsure end goes with it.
        return max((start for start in starts if start <= unsure), default=0)


def _fusible_end(text: str) -> int:
    """Where, in the normal form of `text`, the end begins that later characters may fuse with or reorder."""
    base = len(text)
    while base > 0:
        base -= 1
        if unicodedata.combining(text[base]) == 0 and not _MAY_FUSE.match(text[base]):
            break
    return len(unicodedata.normalize("NFC", text[:base]))
