"""How much sound a listener has in hand, who plays what comes at once and waits, silent, when all of it is played.

Knows neither the sound nor the clock: times and amounts are given, both in seconds.
"""

from __future__ import annotations


class Playback:
    """One listener's. Before the first sound there is nothing to run dry of."""

    def __init__(self) -> None:
        self._over: float | None = None

    def lead(self, now: float) -> float:
        """Seconds of sound still to be played; 0 before the first, negative for one who has been waiting for more."""
        return 0.0 if self._over is None else self._over - now

    def add(self, seconds: float, now: float) -> None:
        """So much more has come: it is played after what is in hand, or at once."""
        self._over = (now if self._over is None else max(self._over, now)) + seconds

    def excuse(self, now: float) -> None:
        """The wait until now is nobody's fault: from here on it counts anew."""
        if self._over is not None:
            self._over = max(self._over, now)
