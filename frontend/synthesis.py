"""What the frontend asks of whatever makes speech: the request, the answers, and the protocol between them.

triton.py implements `Speech` against a real server, tests implement it in memory. Nothing here knows gRPC,
WebSocket or JSON messages.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

SAMPLE_RATE = 24_000
BYTES_PER_SAMPLE = 2
FRAME_SAMPLES = 1_920  # one codec frame, 80 ms


@dataclass(frozen=True)
class SpeechRequest:
    """One utterance to be made; None leaves the choice to the model."""

    text: str
    voice: str | None = None
    language: str | None = None
    instruct: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    max_frames: int | None = None


@dataclass(frozen=True)
class Segment:
    """A portion of the text whose sound begins: characters of the request's text, and samples of its audio.

    `text_end` is None where the end of the portion is not known yet.
    """

    text_start: int
    text_end: int | None
    sample_offset: int


@dataclass(frozen=True)
class Chunk:
    """Consecutive audio of an utterance, int16 little endian mono at 24 kHz.

    `info` is on the last chunk only; `segment` on the first with sound of it, or on an empty one before.
    """

    pcm: bytes
    info: Mapping[str, Any] | None = None
    segment: Segment | None = None


@dataclass(frozen=True)
class Description:
    """The model's answer to a describe request; `instance` is new whenever the model was loaded anew."""

    model: str
    instance: str
    untrained_demo: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The model's name for people, which says plainly when its weights are random."""
        said = not self.untrained_demo or "untrained demo" in self.model
        return self.model if said else f"{self.model} (untrained demo)"

    @property
    def capacity(self) -> int | None:
        """How many utterances the model takes, running and waiting; None when it does not say."""
        limits = self.details.get("limits", {})
        return limits["slots"] + limits["max_waiting"] if {"slots", "max_waiting"} <= set(limits) else None


class ModelState(Enum):
    """What the server says about a model that did not answer."""

    READY = "ready"
    LOADING = "loading"
    FAILED = "failed"
    ABSENT = "absent"


@dataclass(frozen=True)
class ModelStatus:
    """A model's state and, for FAILED, the server's reason."""

    state: ModelState
    reason: str = ""


class Speech(Protocol):
    """A maker of speech. All methods belong to the event loop that created the object."""

    def speak(self, request: SpeechRequest, more: AsyncIterator[str] | None = None) -> AsyncGenerator[Chunk, None]:
        """Chunks as they are made; the last one carries `info`.

        `more`, where given, is text to be appended to the request's as it comes; its end is the end of the text.
        It is iterated by a task that ends with the generator.
        Closing the generator, or cancelling the task that iterates it, frees the model's slot before it returns.
        Raises SpeechError.
        """
        ...

    async def describe(self) -> Description:
        """A real request answered by the model itself, within a deadline of the implementation.

        Raises SpeechError when there is no answer.
        """
        ...

    async def model_status(self) -> ModelStatus:
        """What the server knows about the model, without asking the model. Raises NotReady if unreachable."""
        ...
