"""One accepted `speak` of protocol v2: how far it has come, what was sent of it, and how it ends.

It starts and ends nothing itself, and knows neither the socket nor the model.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from frontend import events_v2
from frontend.framing import Framing
from frontend.lanes import Data, Lane, Parcel
from frontend.messages_v2 import Speak
from frontend.metrics import Tally
from frontend.synthesis import FRAME_SAMPLES
from frontend.text_feed import TextFeed

CANCELLED_REASONS = frozenset({"cancelled", "preempted", "draining"})
_LOGGED_CHARS = 64


@dataclass(frozen=True)
class Mark:
    """Where in the sound, in samples as they are sent, a portion of the text begins."""

    char_start: int
    char_end: int
    sample_start: int


@dataclass(eq=False)
class Spoken:
    """A request between its acceptance and its terminal message; times are the event loop's."""

    request_id: str
    speak: Speak
    stream_id: int
    framing: Framing
    lane: Lane
    feed: TextFeed
    asked_at: float
    served_at: float | None = None
    first_at: float | None = None
    samples: int = 0
    model_samples: int = 0
    generation_s: float = 0.0
    reason: str = "complete"
    announced: bool = False
    refused: bool = False
    started: bool = False
    cancelled: bool = False
    played_ms: float | None = None
    marks: list[Mark] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    tally: Tally | None = None

    def traced(self) -> AbstractContextManager[None]:
        """Calls made within, and by tasks begun within, belong to this request's trace."""
        return nullcontext() if self.tally is None else self.tally.span.current()

    def failed(self, failure: Exception) -> None:
        """An error ends it, or refuses it."""
        if self.tally is not None:
            self.tally.failed(failure)

    def cancel(self, reason: str) -> bool:
        """Whether this ends it; it does not when it was cancelled before or its terminal is on its way."""
        if self.cancelled or self.settled.is_set():
            return False  # a second cancel would interrupt the freeing of the slot
        self.cancelled = True
        self.reason = reason
        self.lane.drop()
        if self.tally is not None:
            self.tally.cancelling()
        if self.task is not None:
            self.task.cancel()
        return True

    def audio(self, payload: bytes, samples: int) -> Parcel:
        """A frame of that many samples (none: a header), counted when it is taken."""

        def parcel() -> Sequence[Data]:
            if self.first_at is None:
                self.first_at = asyncio.get_running_loop().time()
            frame = self.framing.frame(payload, self.samples)
            self.samples += samples
            if self.tally is not None:
                self.tally.heard()
                self.tally.made(samples / self.speak.wishes.format.sample_rate, in_time=self.speak.final)
                self.tally.sent(len(frame))
            return [frame]

        return parcel

    def opening(self, message: str) -> Parcel:
        """The message with which its stream begins."""

        def parcel() -> Sequence[Data]:
            self.started = True
            return [message]

        return parcel

    def terminal(self, *before: Data) -> list[Data]:
        """The end of its stream and its `audio_end`, behind other last words."""
        self.settled.set()
        last = self.framing.ending(self.samples) if self.started else None
        wishes = self.speak.wishes
        end = events_v2.AudioEnd(
            sample_rate=wishes.format.sample_rate,
            format=wishes.format.encoding,
            cancelled=self.reason in CANCELLED_REASONS,
            reason=self.reason,
            samples=self.samples,
            ttfa_ms=None if self.first_at is None else round((self.first_at - self.asked_at) * 1000),
            generation_ms=round(self.generation_s * 1000),
            chars=len(self.feed.text),
            tokens=self.model_samples // FRAME_SAMPLES,
        )
        audio_end = events_v2.audio_end(self.request_id, end, self._spoken_text())
        return [*before, *([] if last is None else [last]), audio_end]

    def summary(self, reason: str, now: float) -> str:
        """Everything worth knowing afterwards, as key=value, except the text."""
        wishes = self.speak.wishes
        facts = {
            "request": self.request_id[:_LOGGED_CHARS],
            "voice": wishes.voice and wishes.voice[:_LOGGED_CHARS],
            "format": f"{wishes.format.encoding}/{wishes.format.sample_rate}",
            "mode": wishes.mode,
            "live": not self.speak.final,
            "chars": len(self.feed.text),
            "reason": reason,
            "samples": self.samples,
            "ttfa_ms": None if self.first_at is None else round((self.first_at - self.asked_at) * 1000),
            "total_ms": round((now - self.asked_at) * 1000),
            "trace": None if self.tally is None else self.tally.span.trace_id,
        }
        return " ".join(f"{key}={json.dumps(value)}" for key, value in facts.items())

    def _spoken_text(self) -> str | None:
        """The text up to the end of the segment that was playing, when a cancel told how much was played."""
        if self.played_ms is None or not self.cancelled:
            return None
        played = self.played_ms * self.speak.wishes.format.sample_rate / 1000
        ends = [mark.char_end for mark in self.marks if mark.sample_start < min(played, self.samples)]
        return self.feed.text[: max(ends, default=0)]
