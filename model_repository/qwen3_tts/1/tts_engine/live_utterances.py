"""Utterances whose text is still being written, by the names their writers gave them.

May be used by any thread. Knows texts and ids; when an utterance ends it must be told.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .errors import InvalidRequest
from .live_text import LiveText

_REMEMBERED = 1_024


@dataclass(frozen=True)
class Appended:
    """What more text has made certain."""

    utterance_id: int
    ids: list[int]
    complete: bool


class LiveUtterances:
    """Names, texts and ids of live utterances, and names of those that ended lately."""

    def __init__(self, live_text: Callable[[], LiveText]) -> None:
        """live_text: makes the tokenizer of one text."""
        self._live_text = live_text
        self._lock = threading.Lock()
        self._open: dict[str, tuple[int, LiveText]] = {}
        self._names: dict[int, str] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def open(self, name: str, utterance_id: int, text: str) -> Appended:
        """Begin an utterance named `name` with its first text, which may be empty.

        Raises InvalidRequest when the name is in use or the text is refused.
        """
        with self._lock:
            if name in self._open:
                raise InvalidRequest(f"utterance {name[:80]!r} is open already")
            live = self._live_text()
            ids = live.append(text)
            self._open[name] = (utterance_id, live)
            self._names[utterance_id] = name
            self._ended.pop(name, None)
            return Appended(utterance_id, ids, complete=False)

    def append(self, name: str, text: str, *, complete: bool) -> Appended | None:
        """More text for `name`; None when it is not open.

        Raises InvalidRequest when the text is refused; what came before it stays.
        """
        with self._lock:
            if name not in self._open:
                return None
            utterance_id, live = self._open[name]
            ids = live.append(text)
            if complete:
                ids += live.finish()
                self._forget(utterance_id)
            return Appended(utterance_id, ids, complete)

    def ended(self, utterance_id: int) -> None:
        """An utterance has ended, live or not."""
        with self._lock:
            self._forget(utterance_id)

    def has_ended(self, name: str) -> bool:
        """Whether `name` was open and lately ended: text for it comes too late, which is nobody's fault."""
        with self._lock:
            return name in self._ended

    def _forget(self, utterance_id: int) -> None:
        name = self._names.pop(utterance_id, None)
        if name is None:
            return
        del self._open[name]
        self._ended[name] = None
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
