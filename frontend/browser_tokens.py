"""Tokens with which a browser opens one socket, so that the key itself never travels in a handshake.

Each is taken once and within its lifetime, and can speak but not administer. Kept in this process's memory.
"""

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass

PREFIX = "once_"


class TooManyTokens(Exception):
    """More unused tokens are out than the memory for them holds."""


@dataclass(frozen=True)
class _Issued:
    label: str | None
    expires_at: float


class BrowserTokens:
    """Issued and not yet used tokens. Times are of one clock that never goes back."""

    def __init__(self, lifetime_s: float, max_unused: int) -> None:
        self.lifetime_s = lifetime_s
        self._max_unused = max_unused
        # By digest, so that a look-up tells nothing about how much of a token was right; oldest first.
        self._issued: OrderedDict[bytes, _Issued] = OrderedDict()

    def issue(self, label: str | None, now: float) -> str:
        """A new token for the caller of that label, None for one without. Raises TooManyTokens."""
        self._forget_expired(now)
        if len(self._issued) >= self._max_unused:
            raise TooManyTokens(f"{len(self._issued)} tokens are unused, the limit is {self._max_unused}")
        token = PREFIX + secrets.token_urlsafe(32)
        self._issued[_digest(token)] = _Issued(label, now + self.lifetime_s)
        return token

    def redeem(self, token: str, now: float) -> tuple[bool, str | None]:
        """Whether the token was good, and whose; it is good no more."""
        self._forget_expired(now)
        issued = self._issued.pop(_digest(token), None)
        return (False, None) if issued is None else (True, issued.label)

    def _forget_expired(self, now: float) -> None:
        while self._issued and next(iter(self._issued.values())).expires_at <= now:
            self._issued.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
