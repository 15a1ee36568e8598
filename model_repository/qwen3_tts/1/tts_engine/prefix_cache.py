"""Keys and values of prompt beginnings that many utterances share: the same voice, language and style.

Bounded by memory, least recently used first out. Used by the engine thread alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Prefix:
    """Keys and values (L, G, T, K) of the first T positions of a prompt."""

    keys: Tensor
    values: Tensor

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.keys.nbytes + self.values.nbytes


class PrefixCache:
    """Prefixes by what they were made from."""

    def __init__(self, capacity: int) -> None:
        """capacity: bytes to keep; 0 keeps nothing."""
        self._capacity, self._bytes = capacity, 0
        self._prefixes: OrderedDict[Hashable, Prefix] = OrderedDict()
        self.hits = self.misses = 0

    def get(self, key: Hashable) -> Prefix | None:
        """The prefix kept under `key`."""
        prefix = self._prefixes.get(key)
        if prefix is None:
            self.misses += 1
            return None
        self.hits += 1
        self._prefixes.move_to_end(key)
        return prefix

    def put(self, key: Hashable, prefix: Prefix) -> None:
        """Keep a prefix, unless it alone is over the capacity; the oldest make room."""
        if prefix.nbytes > self._capacity:
            return
        self._prefixes[key] = prefix
        self._bytes += prefix.nbytes
        while self._bytes > self._capacity:
            _, dropped = self._prefixes.popitem(last=False)
            self._bytes -= dropped.nbytes
