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

    def __init__(self, live_text: Callable[[], LiveText], deliver: Callable[[Appended], None]) -> None:
        """live_text: makes the tokenizer of one text. deliver: told what has been appended, in order."""
        self._live_text, self._deliver = live_text, deliver
        self._lock = threading.Lock()
        self._open: dict[str, tuple[int, LiveText]] = {}
        self._names: dict[int, str] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def open(self, name: str, utterance_id: int, text: str, begin: Callable[[], None]) -> None:
        """Begin an utterance named `name` with its first text, which may be empty; `begin` goes before all text.

        Raises InvalidRequest when the name is in use or the text is refused; nothing has begun then.
        """
        with self._lock:
            if name in self._open:
                raise InvalidRequest(f"utterance {name[:80]!r} is open already")
            live = self._live_text()
            ids = live.append(text)
            self._open[name] = (utterance_id, live)
            self._names[utterance_id] = name
            begin()
            self._deliver(Appended(utterance_id, ids, complete=False))

    def append(self, name: str, text: str, *, complete: bool) -> bool:
        """More text for `name`. False when it is not open and has not just ended: then text comes too late, which is
        nobody's fault, and is ignored.

        Raises InvalidRequest when the text is refused; what came before it stays.
        """
        with self._lock:
            if name not in self._open:
                return name in self._ended
            utterance_id, live = self._open[name]
            ids = live.append(text)
            if complete:
                ids += live.finish()
                self._forget(utterance_id)
            self._deliver(Appended(utterance_id, ids, complete))
            return True

    def is_open(self, name: str) -> bool:
        """Whether `name` takes text."""
        with self._lock:
            return name in self._open

    def refused(self, name: str) -> None:
        """An utterance `name` was not begun: text for it is on its way already, and comes too late."""
        with self._lock:
            self._remember(name)

    def ended(self, utterance_id: int) -> None:
        """An utterance has ended, live or not."""
        with self._lock:
            self._forget(utterance_id)

    def _forget(self, utterance_id: int) -> None:
        name = self._names.pop(utterance_id, None)
        if name is None:
            return
        del self._open[name]
        self._remember(name)

    def _remember(self, name: str) -> None:
        self._ended[name] = None
        self._ended.move_to_end(name)
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
