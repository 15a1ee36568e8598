"""How far one accepted `speak` has come, and the line the log gets about it. It starts and ends nothing itself."""

import asyncio
import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from frontend.messages import Speak
from frontend.metrics import Tally
from frontend.outbox import Sent
from frontend.synthesis import BYTES_PER_SAMPLE, SAMPLE_RATE

_LOGGED_CHARS = 64


@dataclass(eq=False)
class Utterance:
    """One `speak` between its acceptance and its terminal message; belongs to one session."""

    speak: Speak
    asked_at: float
    sent: Sent = field(default_factory=Sent)
    reason: str = "complete"
    cancelled: bool = False
    task: asyncio.Task[None] | None = None
    terminal_taken: asyncio.Event | None = None
    tally: Tally | None = None

    def cancel(self) -> None:
        """Ends it unless its terminal message is on its way; afterwards `cancelled` tells which it was."""
        if self.cancelled or (self.terminal_taken is not None and self.terminal_taken.is_set()):
            return  # a second cancel would interrupt the freeing of the slot
        self.cancelled = True
        if self.tally is not None:
            self.tally.cancelling()
        if self.task is not None:
            self.task.cancel()

    def traced(self) -> AbstractContextManager[None]:
        """Calls made within, and by tasks begun within, belong to this utterance's trace."""
        return nullcontext() if self.tally is None else self.tally.span.current()

    def heard(self, pcm_bytes: int) -> None:
        """So much audio of it was made."""
        if self.tally is not None:
            self.tally.heard()
            self.tally.made(pcm_bytes / BYTES_PER_SAMPLE / SAMPLE_RATE)

    def failed(self, failure: Exception) -> None:
        """An error ends it."""
        if self.tally is not None:
            self.tally.failed(failure)

    def ended(self, reason: str) -> None:
        """Its slot is free, or will never be used."""
        if self.tally is not None:
            self.tally.sent(self.sent.pcm_bytes)
            self.tally.ended(reason.partition(":")[0])

    def summary(self, reason: str, now: float) -> str:
        """Everything worth knowing afterwards, as key=value, except the text."""
        first_at = self.sent.first_at
        facts = {
            "request": self.speak.request_id and self.speak.request_id[:_LOGGED_CHARS],
            "voice": self.speak.voice and self.speak.voice[:_LOGGED_CHARS],
            "chars": len(self.speak.text),
            "reason": reason,
            "samples": self.sent.pcm_bytes // BYTES_PER_SAMPLE,
            "ttfa_ms": None if first_at is None else round((first_at - self.asked_at) * 1000),
            "total_ms": round((now - self.asked_at) * 1000),
            "trace": None if self.tally is None else self.tally.span.trace_id,
        }
        return " ".join(f"{key}={json.dumps(value)}" for key, value in facts.items())
