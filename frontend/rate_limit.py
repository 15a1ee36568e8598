"""A token bucket: how many events a client may cause, on average and at once. It knows no clock of its own."""


class TokenBucket:
    """Allows `burst` events at once and `rate_per_s` in the long run."""

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        """True when one more event is allowed at the time `now`, which never goes back."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
