"""The engine's metrics, through a real engine and a stand-in for the server's metrics."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from tests.engine.conftest import SMALL
from tests.engine.fakes import ScriptedRunner
from tests.engine.test_engine import EngineWith, lasting, submitted
from tts_engine import EngineMetrics, InvalidRequest, Outcome, Statistics
from tts_engine.metrics import METRICS, Course

# Refusals are counted by their kind, where they are made.
SHOWN_OTHERWISE = {"refused"}


class Values:
    """What the server would show: a value, or the observations of a histogram, by name and label."""

    GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.numbers: dict[tuple[str, str | None], float] = {}
        self.observed: dict[str, list[float]] = {}
        self.calls = 0

    def __call__(self, *, name: str, description: str, kind: Any) -> "Named":
        assert description
        self.kinds[name] = kind
        return Named(self, name)


class Named:
    def __init__(self, values: Values, name: str) -> None:
        self._values, self._name = values, name

    def Metric(self, labels: Mapping[str, str], buckets: Sequence[float] | None = None) -> "One":
        assert (buckets is not None) == (self._values.kinds[self._name] == "histogram")
        divided = [value for label, value in labels.items() if label != "model"]
        return One(self._values, self._name, divided[0] if divided else None)


class One:
    def __init__(self, values: Values, name: str, label: str | None) -> None:
        self._values, self._key = values, (name, label)
        values.numbers[self._key] = 0
        values.observed.setdefault(name, [])

    def set(self, value: float) -> None:
        self._values.calls += 1
        self._values.numbers[self._key] = value

    def increment(self, value: float) -> None:
        assert value > 0, "a counter only rises"
        self._values.calls += 1
        self._values.numbers[self._key] += value

    def observe(self, value: float) -> None:
        self._values.observed[self._key[0]].append(value)


def outcome(reason: Any = "complete", *, live: bool = False, queue_s: float | None = 1.0, frames: int = 25) -> Outcome:
    timings = {"queue_s": queue_s, "first_audio_s": 1.5, "total_s": 2.0}
    segments = [] if live else [{"index": 0}]
    return Outcome(reason, {"frames": frames, "segments": segments, "timings": timings})


@pytest.fixture
def values() -> Values:
    return Values()


def test_what_the_engine_counts_is_shown(engine_with: EngineWith, values: Values) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    metrics = EngineMetrics(values, SMALL, engine.statistics)
    ids, listeners = submitted(engine, *[lasting(4)] * (SMALL.slots + 1))
    runner.step()
    runner.step()
    metrics.refresh()
    numbers = values.numbers
    assert numbers["tts_slots", None] == numbers["tts_active_utterances", None] == SMALL.slots
    assert numbers["tts_waiting_utterances", None] == 1
    engine.cancel(ids[-1])
    runner.run_freely()
    assert [listener.outcome.reason for listener in listeners] == ["complete"] * SMALL.slots + ["cancelled"]
    metrics.refresh()
    assert numbers["tts_active_utterances", None] == numbers["tts_waiting_utterances", None] == 0
    assert numbers["tts_frames_total", None] == 4 * SMALL.slots
    assert numbers["tts_utterances_total", "complete"] == SMALL.slots
    assert numbers["tts_utterances_total", "cancelled"] == 1
    assert numbers["tts_utterances_total", "failed"] == 0
    assert numbers["tts_steps_total", None] == runner.made
    assert numbers["tts_step_seconds_total", None] > 0


def test_nothing_is_published_that_has_not_changed(values: Values) -> None:
    statistics = Statistics(frames=3)
    metrics = EngineMetrics(values, SMALL, statistics)
    metrics.refresh()
    calls = values.calls
    metrics.refresh()
    assert values.calls == calls


def test_every_count_of_the_engine_becomes_a_metric(values: Values) -> None:
    metrics = EngineMetrics(values, SMALL, Statistics())
    for field in fields(Statistics):
        if field.name not in SHOWN_OTHERWISE:
            busy = Statistics()
            busy.ended["failed"] = 1
            if field.name != "ended":
                busy = Statistics(**{field.name: 1})
            metrics = EngineMetrics(values, SMALL, busy)
            before = dict(values.numbers)
            metrics.refresh()
            assert values.numbers != before, f"nothing shows {field.name}"


def test_an_end_tells_how_long_it_waited_and_took_and_how_fast_it_was_made(values: Values) -> None:
    metrics = EngineMetrics(values, SMALL, Statistics())
    metrics.ended(outcome())
    assert values.observed["tts_queue_seconds"] == [1.0]
    assert values.observed["tts_utterance_seconds"] == [2.0]
    # One second in a slot for 25 frames of 80 ms.
    assert values.observed["tts_real_time_factor_ratio"] == [pytest.approx(0.5)]


@pytest.mark.parametrize("ended", [outcome(live=True), outcome(queue_s=None), outcome(frames=0)])
def test_there_is_no_real_time_factor_of_live_text_or_of_nothing(ended: Outcome) -> None:
    assert Course.of(ended).ratio is None


def test_utterances_that_were_broken_off_tell_only_how_long_they_waited(values: Values) -> None:
    metrics = EngineMetrics(values, SMALL, Statistics())
    metrics.ended(outcome("cancelled"))
    metrics.ended(outcome("cancelled", queue_s=None))
    assert values.observed["tts_queue_seconds"] == [1.0]
    assert values.observed["tts_utterance_seconds"] == values.observed["tts_real_time_factor_ratio"] == []


def test_refusals_are_counted_by_their_kind(values: Values) -> None:
    metrics = EngineMetrics(values, SMALL, Statistics())
    metrics.refused(InvalidRequest("too long"))
    assert values.numbers["tts_refused_total", "InvalidRequest"] == 1
    assert values.numbers["tts_refused_total", "Overloaded"] == 0


def test_a_listener_who_plays_at_once_hears_a_gap_when_a_frame_is_late(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    _, (listener,) = submitted(engine, lasting(2))
    runner.wait_for_engine()
    runner.step()
    assert engine.statistics.underruns == 0
    time.sleep(0.1)  # the first frame, 80 ms, is played meanwhile
    runner.step()
    assert engine.statistics.underruns == 1
    runner.run_freely()
    assert listener.outcome.reason == "complete"


def test_names_and_buckets_follow_the_conventions() -> None:
    for declared in METRICS:
        assert declared.name.startswith("tts_")
        assert declared.name.endswith("_total") == (declared.kind == "counter")
        assert list(declared.buckets) == sorted(set(declared.buckets))
        if declared.kind == "histogram":
            assert declared.name.endswith(("_seconds", "_ratio"))
    assert len({declared.name for declared in METRICS}) == len(METRICS)


def test_small_sizes_are_shown_as_they_are(values: Values) -> None:
    EngineMetrics(values, replace(SMALL, slots=2), Statistics())
    assert values.numbers["tts_slots", None] == 2
