"""What is asked of the engine and how far it has come: the messages between the outside and the engine thread.

Knows neither tensors nor devices.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from .errors import InvalidRequest, TtsError, Unsupported
from .model_config import SamplingDefaults
from .prompt import Prompt
from .sampling import Sampling

Reason = Literal["complete", "max_length", "cancelled", "failed"]

# What each numeric field may be, both ends included.
LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 10.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "repetition_penalty": (0.1, 10.0),
    "predictor_temperature": (0.0, 10.0),
    "predictor_top_k": (0, 1_000_000),
    "predictor_top_p": (0.0, 1.0),
    "seed": (0, 2**64 - 1),
}


@dataclass(frozen=True, kw_only=True)
class Speak:
    """A request to speak `text`. The fields are the inputs of config.pbtxt; None is the default.

    temperature: 0 is greedy, for the code predictor too unless predictor_temperature is given.
    seed: same seed and request, same codes. max_frames: a cap, in frames of 80 ms.
    text_placement: `prefill` reads the whole text before the first frame, `stream` one token per frame.
    """

    text: str
    voice: str | None = None
    language: str | None = None
    instruct: str | None = None
    reference_audio: npt.NDArray[np.float32] | None = None
    reference_sample_rate: int | None = None
    reference_text: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    predictor_temperature: float | None = None
    predictor_top_k: int | None = None
    predictor_top_p: float | None = None
    seed: int | None = None
    max_frames: int | None = None
    text_placement: str | None = None
    utterance: str | None = None
    text_complete: bool | None = None

    def refuse_unserved(self) -> None:
        """Refuse inputs the contract declares and this version does not serve.

        Raises Unsupported.
        """
        for name in ("reference_audio", "reference_sample_rate", "reference_text"):
            if getattr(self, name) is not None:
                raise Unsupported(f"{name}: cloning a voice is not served by this version")
        if self.utterance is not None or self.text_complete is not None:
            raise Unsupported("utterance, text_complete: live text is not served by this version")

    def sampling(self, defaults: SamplingDefaults) -> Sampling:
        """The sampling values with defaults and a seed filled in.

        Raises InvalidRequest naming a value out of its range and the range.
        """
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InvalidRequest(f"{name} must be from {low} to {high}, got {value}")
        greedy_throughout = 0.0 if self.temperature == 0 else None
        return Sampling(
            temperature=_first(self.temperature, defaults.temperature),
            top_k=_first(self.top_k, defaults.top_k),
            top_p=_first(self.top_p, defaults.top_p),
            repetition_penalty=_first(self.repetition_penalty, defaults.repetition_penalty),
            predictor_temperature=_first(self.predictor_temperature, greedy_throughout, defaults.predictor_temperature),
            predictor_top_k=_first(self.predictor_top_k, defaults.predictor_top_k),
            predictor_top_p=_first(self.predictor_top_p, defaults.predictor_top_p),
            seed=_first(self.seed, secrets.randbits(64)),
        )


def _first(*values):  # type: ignore[no-untyped-def]
    return next(value for value in values if value is not None)


@dataclass(frozen=True)
class Outcome:
    """How an utterance ended. info is what the contract's `info` output carries; error is set when it failed."""

    reason: Reason
    info: dict[str, object]
    error: TtsError | None = None


class Sink(Protocol):
    """Where an utterance's sound goes. Called on the engine thread: it must return at once and never raise."""

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        """One frame: 1,920 samples at 24 kHz, and the 16 codes they were made from."""
        ...

    def end(self, outcome: Outcome) -> None:
        """Nothing more follows; called exactly once."""
        ...


@dataclass
class Utterance:
    """A request on its way through the engine. Only the engine thread changes it once it is submitted."""

    id: int
    prompt: Prompt
    sampling: Sampling
    sink: Sink
    max_frames: int
    description: dict[str, object]
    submitted: float = field(default_factory=time.monotonic)
    admitted: float | None = None
    first_audio: float | None = None
    frames: int = 0

    @property
    def length(self) -> int:
        """Key/value positions in use."""
        return len(self.prompt.text_ids) + self.frames
