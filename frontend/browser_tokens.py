"""Tokens with which a browser opens one socket, so that the key itself never travels in a handshake.

Each is taken once and within its lifetime, and can speak but not administer. Kept in this process's memory.
"""

import hashlib
import secrets
from collections import Counter, OrderedDict
from dataclasses import dataclass

PREFIX = "once_"


class TooManyTokens(Exception):
    """One account, or all together, have as many unused tokens as they may; in `retry_after_s` one will expire."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class _Issued:
    account: str
    label: str | None
    expires_at: float


class BrowserTokens:
    """Issued and not yet used tokens. Times are of one clock that never goes back."""

    def __init__(self, lifetime_s: float, max_unused: int, max_unused_per_account: int) -> None:
        self.lifetime_s = lifetime_s
        self._max_unused = max_unused
        self._max_unused_per_account = max_unused_per_account
        # By digest, so that a look-up tells nothing about how much of a token was right; oldest first.
        self._issued: OrderedDict[bytes, _Issued] = OrderedDict()
        self._unused: Counter[str] = Counter()

    def issue(self, account: str, label: str | None, now: float) -> str:
        """A new token for the caller of that label, None for one without; counted for `account`.

        Raises TooManyTokens.
        """
        self._forget_expired(now)
        if self._unused[account] >= self._max_unused_per_account:
            text = (
                f"{self._unused[account]} tokens of this caller are unused, the limit is {self._max_unused_per_account}"
            )
            first = next(issued for issued in self._issued.values() if issued.account == account)
            raise TooManyTokens(text, first.expires_at - now)
        if len(self._issued) >= self._max_unused:
            text = f"{len(self._issued)} tokens of all callers are unused, the limit is {self._max_unused}"
            raise TooManyTokens(text, next(iter(self._issued.values())).expires_at - now)
        token = PREFIX + secrets.token_urlsafe(32)
        self._issued[_digest(token)] = _Issued(account, label, now + self.lifetime_s)
        self._unused[account] += 1
        return token

    def redeem(self, token: str, now: float) -> tuple[bool, str | None]:
        """Whether the token was good, and whose; it is good no more."""
        self._forget_expired(now)
        issued = self._issued.pop(_digest(token), None)
        if issued is None:
            return False, None
        self._uncount(issued)
        return True, issued.label

    def _forget_expired(self, now: float) -> None:
        while self._issued and next(iter(self._issued.values())).expires_at <= now:
            self._uncount(self._issued.popitem(last=False)[1])

    def _uncount(self, issued: _Issued) -> None:
        self._unused[issued.account] -= 1
        if not self._unused[issued.account]:
            del self._unused[issued.account]  # accounts may be addresses, of which there is no end


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
