"""How long steps and prompts take on this device, and what that lets the engine promise.

A frame is 80 ms of sound, so a step of B rows keeps B listeners in real time when it takes less than that; when it
takes a fraction, the rows can be shared by so many times more listeners in turns. Knows neither device nor clock:
times are told.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import FRAME_SECONDS

TOGETHER_SECONDS = 0.05
"""However much time there is, the first of a crowd should not wait until the prompts of all of it are read."""

# A tenth is left for what no step contains: reading prompts, and other programs on the machine.
_REAL_TIME = 0.9 * FRAME_SECONDS
# And a fifth where rows are shared: a turn comes when it comes, and those let in must gain on their listeners.
_SHARED_REAL_TIME = 0.8 * FRAME_SECONDS
_SMOOTHING = 0.1
# A process that was stopped, or a machine that was busy, says nothing of the device: no time counts for more than this
# many times what is known, and no more is believed of the past than so many times what is measured now.
_HICCUP = 4.0
# A step now and then is quicker than it was; that is no prompt read in no time, which nothing could be learnt from.
_LEAST_PROMPT_SECONDS = 1e-3
# One hiccup is no verdict on a size, and what was too slow once may be fast enough later.
_TRIALS = 4
_FORGOTTEN_SECONDS = 30.0


@dataclass(frozen=True)
class Limits:
    """What may go on at once so that sound is made at least as fast as it is heard.

    width: rows of a step. listeners: utterances that speak in turns in these rows. frames_per_second: what all of
    them together are given; 0 as long as nothing has been measured.
    """

    width: int
    listeners: int
    frames_per_second: float = 0.0


class Pace:
    """Smoothed durations by number of rows. Written by the engine thread; `limits` may be read by any."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._seconds = [0.0] * (slots + 1)
        self._trials = [0] * (slots + 1)
        self._measured_at = [0.0] * (slots + 1)
        self._sizes: list[int] = []
        self._most_parked: int | None = None
        self.prompt_seconds = 0.0
        self._knows_prompts = False
        self.limits = Limits(slots, slots)

    def step_seconds(self, rows: int) -> float:
        """What a step of `rows` takes: as measured for the size next to it; 0 when nothing was."""
        if not self._sizes:
            return 0.0
        return self._seconds[min(self._sizes, key=lambda size: (abs(size - rows), -size))]

    def stepped(self, rows: int, seconds: float, now: float) -> None:
        """A step of `rows` took `seconds`."""
        fresh = now - self._measured_at[rows] <= _FORGOTTEN_SECONDS
        if not self._trials[rows]:
            self._sizes.append(rows)
        if self._trials[rows] and fresh:
            self._seconds[rows] = _smoothed(self._seconds[rows], seconds)
        else:
            self._seconds[rows], self._trials[rows] = seconds, 0
        self._trials[rows] += 1
        self._measured_at[rows] = now
        self.limits = self._limits(now)

    def read(self, prompts: int, rows: int, seconds: float) -> None:
        """Reading `prompts` prompts and a step of `rows` after them took `seconds`."""
        each = max(_LEAST_PROMPT_SECONDS, (seconds - self.step_seconds(rows)) / prompts)
        self.prompt_seconds = _smoothed(self.prompt_seconds, each) if self._knows_prompts else each
        # Before any step was measured alone, its share of the time is not known: that is the prompt's until then.
        self._knows_prompts = bool(self._sizes)

    def parked(self, most: int) -> None:
        """There is memory to set `most` listeners aside: more than that cannot share rows."""
        self._most_parked = most

    def prompts_within(self, seconds: float) -> int:
        """How many prompts can be read in that time; one always, or nobody would ever come in."""
        return max(1, int(seconds / self.prompt_seconds)) if self.prompt_seconds else 1

    def opening(self, seated: int, waiting: int) -> int:
        """How many of `waiting` prompts to read before the first step of `seated` rows, with nobody speaking yet.

        As many as leave the mean first sound no later than it would be if the step came first, or, with nobody seated,
        after what TOGETHER_SECONDS allow.
        """
        least = 0 if seated else min(waiting, self.prompts_within(TOGETHER_SECONDS))
        if not self.prompt_seconds:
            return least
        bound = self._first_sounds(seated, waiting, least) * (1 + 1e-9)
        counts = range(waiting, least, -1)
        return next((count for count in counts if self._first_sounds(seated, waiting, count) <= bound), least)

    def _first_sounds(self, seated: int, waiting: int, read: int) -> float:
        """The sum of seconds to the first sounds of all, when `read` prompts are read and the others step by step."""
        rows = seated + read
        elapsed = read * self.prompt_seconds + self.step_seconds(rows)
        total, left = rows * elapsed, waiting - read
        while left > 0:
            step = self.step_seconds(rows)
            joining = min(left, self.prompts_within(max(step, min(FRAME_SECONDS - step, TOGETHER_SECONDS))))
            rows += joining
            elapsed += joining * self.prompt_seconds + self.step_seconds(rows)
            total, left = total + joining * elapsed, left - joining
        return total

    def _limits(self, now: float) -> Limits:
        width = self._width(now)
        seconds = max(self.step_seconds(width), 1e-6)
        rate = width / seconds
        listeners = max(width, int(rate * _SHARED_REAL_TIME))
        if self._most_parked is not None:
            listeners = min(listeners, width + self._most_parked)
        return Limits(width, listeners, rate)

    def _width(self, now: float) -> int:
        """The most rows that can be made in real time, as far as is known; all where not even few can."""
        known = [
            size
            for size in self._sizes
            if self._trials[size] >= _TRIALS and now - self._measured_at[size] <= _FORGOTTEN_SECONDS
        ]
        fast = max((size for size in known if self._seconds[size] <= _REAL_TIME), default=0)
        slow = min((size for size in known if size > fast), default=None)
        if not fast or slow is None:
            return self._slots
        return (fast + slow) // 2  # between the two nothing is known, and each trial halves that


def _smoothed(known: float, measured: float) -> float:
    known = min(known, _HICCUP * measured)
    return known + _SMOOTHING * (min(measured, _HICCUP * known) - known)
