"""Which web pages may use the server: the one it serves itself, and those on a list.

A browser says which page a request comes from (`Origin`); other programs do not, and are not asked. It knows no
framework.
"""

import re
from collections.abc import Collection
from typing import Self
from urllib.parse import urlsplit

ANY = "*"

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = re.compile(r"localhost|[\w.-]+\.localhost|127(\.\d{1,3}){3}|::1", re.IGNORECASE)


class WrongOrigin(Exception):
    """An entry of the list is not an origin."""


class Origins:
    """The pages that may use the server, besides its own."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    @classmethod
    def parse(cls, entries: str) -> Self:
        """Origins such as `https://example.org`, or `*` for every page, separated by commas. Raises WrongOrigin."""
        return cls([_normal(entry) for entry in re.split(r"[\s,]+", entries.strip()) if entry])

    def lists(self, origin: str) -> bool:
        """Whether the page is on the list."""
        return ANY in self._allowed or origin.lower() in self._allowed

    def allows(self, origin: str | None, host: str) -> bool:
        """Whether a request with this `Origin` header, None without one, may come in at `host`."""
        return origin is None or self.lists(origin) or _is_same(origin, host)


def is_loopback_name(host: str) -> bool:
    """Whether a `Host` header names this machine and nothing that a foreign name server could point at it."""
    name = urlsplit(f"//{host}").hostname if _splits(f"//{host}") else None
    return name is not None and _LOOPBACK.fullmatch(name) is not None


def _is_same(origin: str, host: str) -> bool:
    """Compares name and port; not the scheme, which a proxy before us may have changed."""
    if not (_splits(origin) and _splits(f"//{host}")):
        return False
    theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
    default = _PORTS.get(theirs.scheme)
    if default is None or not theirs.hostname:
        return False
    return (theirs.hostname, theirs.port or default) == (ours.hostname, ours.port or default)


def _splits(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def _normal(entry: str) -> str:
    if entry == ANY:
        return entry
    parts = urlsplit(entry) if _splits(entry) else None
    if parts is None or parts.scheme not in _PORTS or not parts.hostname or entry != f"{parts.scheme}://{parts.netloc}":
        raise WrongOrigin(f"{entry!r} is not an origin, such as https://example.org or http://localhost:3000")
    return entry.lower()
