"""API keys: what one looks like, how a server keeps it, and whose it is. Only hashes are kept.

A key is 256 random bits, so a plain SHA-256 cannot be searched back. It knows neither headers nor settings' names.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

PREFIX = "tts_"

_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a caller may do; each scope includes those before it."""

    SPEAK = "speak"
    ADMIN = "admin"


class WrongEntry(Exception):
    """An entry of the list of keys is not one; the message shows no hash."""


@dataclass(frozen=True)
class ApiKey:
    """Whose key it is. Several keys may have one label, as while one replaces another; they share its limits."""

    label: str
    scope: Scope
    digest: bytes = field(repr=False)


class ApiKeys:
    """The keys a server takes."""

    def __init__(self, keys: Sequence[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def parse(cls, entries: str) -> Self:
        """Keys from `label:scope:sha256` entries, separated by commas or white space. Raises WrongEntry."""
        keys = [_parse(entry, number) for number, entry in enumerate(re.split(r"[\s,]+", entries.strip()), 1) if entry]
        if len({key.digest for key in keys}) < len(keys):
            raise WrongEntry("two entries have the same hash")
        return cls(keys)

    def find(self, key: str) -> ApiKey | None:
        """Whose key this is. It takes equally long for every key that is wrong."""
        digest = _digest(key)
        found: ApiKey | None = None
        for known in self._keys:
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found


def make_key() -> str:
    """A new key. Its characters may stand in a header and in a WebSocket subprotocol."""
    return PREFIX + secrets.token_urlsafe(32)


def entry(label: str, scope: Scope, key: str) -> str:
    """What a server is given so that it takes the key. Raises WrongEntry."""
    if not _LABEL.fullmatch(label):
        raise WrongEntry(f"label {label!r}: 1 to 64 of a-z, 0-9, `.`, `_` and `-`, the first a letter or a digit")
    return f"{label}:{scope}:{_digest(key).hex()}"


def _parse(text: str, number: int) -> ApiKey:
    parts = text.split(":")
    if len(parts) != 3:
        raise WrongEntry(f"entry {number} has {len(parts)} parts, not label:scope:sha256")
    label, scope, digest = parts
    if not _LABEL.fullmatch(label):
        raise WrongEntry(f"entry {number}: the label is not 1 to 64 of a-z, 0-9, `.`, `_` and `-`")
    if scope not in tuple(Scope):
        raise WrongEntry(f"entry {number}, {label}: the scope is not one of {', '.join(Scope)}")
    if not _HASH.fullmatch(digest):
        raise WrongEntry(f"entry {number}, {label}: the hash is not 64 digits of lower case hexadecimal")
    return ApiKey(label, Scope(scope), bytes.fromhex(digest))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
