"""The engine's counts and times as Prometheus metrics: their names, what they mean, and when they move.

Knows no Triton: whoever has its metrics brings the class that makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args

from .config import FRAME_SECONDS
from .counts import Statistics
from .errors import EngineFailed, InvalidRequest, Overloaded, TtsError, UnknownVoice, Unsupported
from .request import Outcome, Reason

MODEL = "qwen3_tts"

_FIRST_AUDIO_BUCKETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_QUEUE_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_UTTERANCE_BUCKETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0)
# Dense below 1, where a listener begins to hear gaps.
_RATIO_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Declared:
    """One family of metrics. label: by which it is divided, into `values`; every one is there from the start, at 0."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    meaning: str
    label: str | None = None
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SLOTS = Declared("tts_slots", "gauge", "Utterances that can be in a slot at once")
ACTIVE = Declared("tts_active_utterances", "gauge", "Utterances in a slot")
PARKED = Declared("tts_parked_utterances", "gauge", "Utterances set aside, whose listeners have sound in hand")
WAITING = Declared("tts_waiting_utterances", "gauge", "Utterances waiting for their first slot")
FRAMES = Declared("tts_frames_total", "counter", "Frames of 80 ms made")
UTTERANCES = Declared(
    "tts_utterances_total", "counter", "Utterances ended, by the reason of their end", "reason", get_args(Reason)
)
REFUSED = Declared(
    "tts_refused_total",
    "counter",
    "Requests refused before they were queued, by the kind of error",
    "error",
    tuple(kind.__name__ for kind in (InvalidRequest, Unsupported, UnknownVoice, Overloaded, EngineFailed)),
)
UNDERRUNS = Declared(
    "tts_underruns_total", "counter", "Frames made after a listener who plays at once had run out of sound"
)
STEPS = Declared("tts_steps_total", "counter", "Steps, each of which makes a frame for every utterance in a slot")
STEP_SECONDS = Declared("tts_step_seconds_total", "counter", "Time spent in steps and in reading prompts for them")
FIRST_AUDIO = Declared(
    "tts_time_to_first_audio_seconds",
    "histogram",
    "From the request's arrival in the model to its first sound leaving it",
    buckets=_FIRST_AUDIO_BUCKETS,
)
QUEUE = Declared("tts_queue_seconds", "histogram", "From the request's arrival to its slot", buckets=_QUEUE_BUCKETS)
DURATION = Declared(
    "tts_utterance_seconds",
    "histogram",
    "From the request's arrival to its end, of utterances spoken to their end",
    buckets=_UTTERANCE_BUCKETS,
)
RATIO = Declared(
    "tts_real_time_factor_ratio",
    "histogram",
    "Time in a slot over the time of the sound made, of whole texts spoken to their end",
    buckets=_RATIO_BUCKETS,
)
METRICS = (
    *(SLOTS, ACTIVE, PARKED, WAITING, FRAMES, UTTERANCES, REFUSED, UNDERRUNS, STEPS, STEP_SECONDS),
    *(FIRST_AUDIO, QUEUE, DURATION, RATIO),
)


class Metric(Protocol):
    """One value or one histogram."""

    def set(self, value: float) -> None: ...
    def increment(self, value: float) -> None: ...
    def observe(self, value: float) -> None: ...


class Family(Protocol):
    """Metrics of one name."""

    def Metric(self, labels: Mapping[str, str], buckets: Sequence[float] | None = None) -> Metric: ...


class FamilyKind(Protocol):
    """The class of families: `pb_utils.MetricFamily` inside Triton."""

    GAUGE: Any
    COUNTER: Any
    HISTOGRAM: Any

    def __call__(self, *, name: str, description: str, kind: Any) -> Family: ...


class EngineMetrics:
    """Implements delivery's Observer. `refused` may be called by any thread, all else by the delivery thread."""

    def __init__(self, families: FamilyKind, slots: int, statistics: Statistics) -> None:
        self._statistics = statistics
        # A family must outlive its metrics, so both are kept.
        self._families = {declared: _family(families, declared) for declared in METRICS}
        self._metrics = {
            (declared, value): _metric(self._families[declared], declared, value)
            for declared in METRICS
            for value in declared.values or (None,)
        }
        self._shown: dict[tuple[Declared, str | None], float] = {}
        self._metrics[SLOTS, None].set(slots)

    def first_audio(self, seconds: float) -> None:
        """An utterance's first sound was sent, so long after it was opened."""
        self._metrics[FIRST_AUDIO, None].observe(seconds)

    def ended(self, outcome: Outcome) -> None:
        """An utterance that was taken in has ended, and its listener was told."""
        course = Course.of(outcome)
        if course.queue_s is not None:
            self._metrics[QUEUE, None].observe(course.queue_s)
        if outcome.reason in ("complete", "max_length"):
            self._metrics[DURATION, None].observe(course.total_s)
            if course.ratio is not None:
                self._metrics[RATIO, None].observe(course.ratio)

    def refused(self, error: TtsError) -> None:
        """A request was refused."""
        self._metrics[REFUSED, type(error).__name__].increment(1)

    def refresh(self) -> None:
        """Publish what the engine has counted since the last time."""
        counted = self._statistics
        for gauge, level in ((ACTIVE, counted.active), (PARKED, counted.parked), (WAITING, counted.waiting)):
            if level != self._shown.get((gauge, None), 0):
                self._shown[gauge, None] = level
                self._metrics[gauge, None].set(level)
        self._raise(FRAMES, None, counted.frames)
        self._raise(UNDERRUNS, None, counted.underruns)
        self._raise(STEPS, None, counted.steps)
        self._raise(STEP_SECONDS, None, counted.step_seconds_total)
        for reason in UTTERANCES.values:
            self._raise(UTTERANCES, reason, counted.ended[reason])

    def _raise(self, counter: Declared, value: str | None, to: float) -> None:
        since = to - self._shown.get((counter, value), 0)
        if since:  # each call is a round trip to the server
            self._metrics[counter, value].increment(since)
            self._shown[counter, value] = to


@dataclass(frozen=True)
class Course:
    """The course an utterance took. Seconds since its arrival; None for what it never reached.

    audio_s: of the sound made. ratio: its real-time factor; None for live text, which waits for whoever writes it.
    """

    queue_s: float | None
    first_audio_s: float | None
    total_s: float
    frames: int
    ratio: float | None

    @classmethod
    def of(cls, outcome: Outcome) -> Course:
        """As an outcome tells it."""
        timings = cast(Mapping[str, float | None], outcome.info["timings"])
        queue_s, total_s = timings["queue_s"], timings["total_s"]
        frames = cast(int, outcome.info["frames"])
        assert total_s is not None, "an utterance that has ended has a duration"
        ratio = None
        if frames and queue_s is not None and outcome.info["segments"]:
            ratio = (total_s - queue_s) / (frames * FRAME_SECONDS)
        return cls(queue_s, timings["first_audio_s"], total_s, frames, ratio)


def _family(families: FamilyKind, declared: Declared) -> Family:
    kind = {"gauge": families.GAUGE, "counter": families.COUNTER, "histogram": families.HISTOGRAM}[declared.kind]
    return families(name=declared.name, description=declared.meaning, kind=kind)


def _metric(family: Family, declared: Declared, value: str | None) -> Metric:
    labels = {"model": MODEL}
    if declared.label is not None and value is not None:
        labels[declared.label] = value
    return family.Metric(labels=labels, buckets=list(declared.buckets)) if declared.buckets else family.Metric(labels)
