"""A token bucket: how much a client may cause, on average and at once. It knows no clock of its own."""


class TokenBucket:
    """Allows `burst` at once and `rate_per_s` in the long run, whatever it is that is counted."""

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float, amount: float = 1) -> bool:
        """True when `amount` more is allowed at the time `now`, which never goes back.

        More than a whole burst is allowed when the bucket is full, and owed afterwards.
        """
        self._fill(now)
        if self._tokens < min(amount, self._burst):
            return False
        self._tokens -= amount
        return True

    def wait_s(self, now: float, amount: float = 1) -> float:
        """How long from `now` until `amount` will be allowed."""
        self._fill(now)
        return max(0.0, min(amount, self._burst) - self._tokens) / self._rate_per_s

    def is_full(self, now: float) -> bool:
        """Whether it would be the same if it had never been used."""
        self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
