"""What is asked of the engine and how far it has come: the messages between the outside and the engine thread.

Knows neither tensors nor devices.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from .config import SAMPLES_PER_FRAME
from .errors import InvalidRequest, TtsError
from .model_config import SamplingDefaults
from .playback import Playback
from .prompt import Template
from .sampling_values import Sampling
from .segmentation import Segment

if TYPE_CHECKING:
    from .voice_encoder import EncodedVoice

Reason = Literal["complete", "max_length", "cancelled", "text_timeout", "failed"]

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

# A generation that has not ended by then never will: guards against a checkpoint that misses its own end.
_RUNAWAY_FLOOR = 192
_RUNAWAY_FRAMES_PER_TOKEN = 12


@dataclass(frozen=True, kw_only=True)
class Speak:
    """A request to speak `text`. The fields are the inputs of config.pbtxt; None is the default.

    instruct: empty for none, also where the voice brings one of its own.
    temperature: 0 is greedy, for the code predictor too unless predictor_temperature is given.
    seed: same seed and request, same codes. max_frames: a cap, in frames of 80 ms.
    text_placement: `prefill` reads the whole text before the first frame, `stream` one token per frame.
    trim_leading_silence: leave out up to four silent frames at the start of each segment.
    utterance, text_complete: a name, and whether more text will follow under it.
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
    trim_leading_silence: bool | None = None
    utterance: str | None = None
    text_complete: bool | None = None

    @property
    def is_live(self) -> bool:
        """Whether text will follow."""
        return self.text_complete is False

    @property
    def is_text_alone(self) -> bool:
        """Whether it says nothing but text and whose text it is, as what follows a live request does."""
        own = {"text", "utterance", "text_complete"}
        return all(getattr(self, field.name) is None for field in fields(self) if field.name not in own)

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


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


@dataclass(frozen=True)
class Outcome:
    """How an utterance ended. info is what the contract's `info` output carries; error is set when it failed."""

    reason: Reason
    info: dict[str, object]
    error: TtsError | None = None


@dataclass(frozen=True)
class SpokenSegment:
    """A portion of a text that came whole, about to be heard: its place in text (characters) and in sound."""

    index: int
    text_start: int
    text_end: int
    sample_offset: int


class Sink(Protocol):
    """Where an utterance's sound goes. Called on the engine thread: it must return at once and never raise."""

    def segment(self, segment: SpokenSegment) -> None:
        """The audio that follows belongs to this segment; never called for live text."""
        ...

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        """One frame: 1,920 samples at 24 kHz, and the 16 codes they were made from."""
        ...

    def end(self, outcome: Outcome) -> None:
        """Nothing more follows; called exactly once."""
        ...


@dataclass
class Script:
    """The text of an utterance: whole segments still to be spoken, or one text that is being written.

    live: ids of a text being written, None for a text that came whole. complete: no text will follow.
    """

    segments: deque[Segment] = field(default_factory=deque)
    live: list[int] | None = None
    complete: bool = True


@dataclass(eq=False)
class Utterance:
    """A request on its way through the engine. Only the engine thread changes it once it is submitted.

    voice: None until a recording to be cloned is encoded. tokens: of its text, as far as it is known.
    generation: which of its generations runs now. prompt_length, trailing: of that generation; frames: how many
    steps were launched for it, landed: how many of them have come back; the talker waits when it was launched for as
    many frames as text has been laid out (trailing) for them. unlaid: text that came while it was in no slot.
    frame_limit: frames a generation of its text may have; most_frames: this one, as the utterance has a limit too.
    total_frames: all that have landed, of all its generations; sent_frames: those the listener got of them.
    playback: what its listener has in hand of the sound that was made for him (monotonic seconds).
    """

    id: int
    template: Template
    script: Script
    sampling: Sampling
    sink: Sink
    max_frames: int
    trim_leading_silence: bool
    description: dict[str, object]
    voice: EncodedVoice | None = None
    awaits_voice: bool = False
    tokens: int = 0
    submitted: float = field(default_factory=time.monotonic)
    admitted: float | None = None
    first_audio: float | None = None
    last_text: float = field(default_factory=time.monotonic)
    generation: int = 0
    prompt_length: int = 0
    frames: int = 0
    landed: int = 0
    frame_limit: int = 0
    most_frames: int = 0
    trailing: int = 0
    unlaid: list[int] = field(default_factory=list)
    total_frames: int = 0
    sent_frames: int = 0
    playback: Playback = field(default_factory=Playback)
    paused: bool = False
    heard: bool = False
    cut_short: bool = False
    ended: bool = False
    spoken: list[SpokenSegment] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Key/value positions in use."""
        return self.prompt_length + self.frames

    @property
    def ready(self) -> bool:
        """Whether its first prompt can be made."""
        if self.awaits_voice:
            return False
        live = self.script.live
        return live is None or self.script.complete or len(live) >= self.template.tokens_needed

    @property
    def dry(self) -> bool:
        """Whether the next frame would need text that has not come."""
        return not self.script.complete and self.frames >= self.trailing

    @property
    def can_speak(self) -> bool:
        """Whether a frame may be launched: its text is there, and its generation may have one more.

        When all it may have are launched, what comes next shows when they land.
        """
        return self.frames < self.most_frames and (self.frames < self.trailing or self.script.complete)

    def lead(self, now: float) -> float:
        """Seconds of sound its listener has still to play; 0 before the first, less when it waits for more."""
        return self.playback.lead(now)

    def begin(self, prompt_length: int, trailing: int, tokens: int, longest: int) -> None:
        """A generation starts.

        prompt_length: positions. trailing: ids laid out beside its frames. tokens: of its text. longest: frames.
        """
        self.generation += 1
        self.prompt_length, self.trailing, self.heard = prompt_length, trailing, False
        self.frames = self.landed = 0
        self.bound(tokens, longest)

    def bound(self, tokens: int, longest: int) -> None:
        """Bound the generation by the tokens its text has so far, and by the `longest` there may be, in frames."""
        self.frame_limit = min(longest, max(_RUNAWAY_FLOOR, _RUNAWAY_FRAMES_PER_TOKEN * tokens))
        self.most_frames = min(self.frame_limit, self.max_frames - self.total_frames + self.landed)

    def hear(self, now: float, seconds: float) -> bool:
        """So much sound has been sent; true when the listener had to wait for it though its text was there."""
        self.sent_frames += 1
        late = self.playback.lead(now) < 0 and not self.paused
        self.first_audio = self.first_audio or now
        self.playback.add(seconds, now)
        self.paused = self.dry
        return late

    def facts(self, reason: Reason, now: float) -> dict[str, object]:
        """What its listener is told at its end."""
        timings = {"queue_s": self.admitted, "first_audio_s": self.first_audio, "total_s": now}
        return {
            "reason": reason,
            "frames": self.total_frames,
            "samples": self.sent_frames * SAMPLES_PER_FRAME,
            **self.description,
            "segments": [asdict(segment) for segment in self.spoken],
            "timings": {
                name: None if when is None else round(when - self.submitted, 6) for name, when in timings.items()
            },
        }


def add_text(utterance: Utterance, ids: Sequence[int], now: float, *, complete: bool, longest: int) -> None:
    """More text of a live utterance has come, `now`. longest: a generation, in frames."""
    assert utterance.script.live is not None, "only live text grows"
    paused = utterance.dry
    utterance.script.live.extend(ids)
    utterance.script.complete = complete
    utterance.tokens = len(utterance.script.live)
    utterance.last_text = now
    if paused:
        # What its listener has missed until now was for want of text.
        utterance.playback.excuse(now)
    utterance.bound(utterance.tokens, longest)
