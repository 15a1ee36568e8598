"""Who is refused, why, and what is promised to those who are not: predicted waits against waits that came true."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.conftest import Figure
from tests.engine.conftest import SMALL
from tests.engine.fakes import Listener, ScriptedRunner
from tests.engine.rehearsal import Clock, Rehearsal, TimedListener, TimedRunner, lasting
from tts_engine import Engine, EngineConfig, EngineFailed, Overloaded
from tts_engine.checkpoint import Checkpoint
from tts_engine.runner import Runner

LONGEST = 4.0
CONFIG = EngineConfig(slots=4, max_waiting=1_000, max_wait_seconds=LONGEST, segment_tokens=4_000, parked_mb=1)


def rehearsal_of(checkpoint: Checkpoint, config: EngineConfig, step: float) -> Rehearsal:
    clock = Clock()
    return Rehearsal(checkpoint, config, TimedRunner(clock, lambda rows: step), clock)


@pytest.mark.parametrize(("step", "parked_mb"), [(0.010, 1), (0.010, 0), (0.060, 1), (0.200, 1)])
def test_who_is_taken_in_gets_a_slot_about_when_it_was_promised_and_who_is_refused_is_told_when_to_come(
    checkpoint: Checkpoint, step: float, parked_mb: int, figure: Figure
) -> None:
    """A crowd of three times what can be served comes for a while; texts are of 3.5 frames a token, give or take."""
    rehearsal, draw = rehearsal_of(checkpoint, replace(CONFIG, parked_mb=parked_mb), step), random.Random(4)
    clock, served, refusals = rehearsal.clock, [], []
    mean, began = 60, clock.now
    every, due = mean * step / 4 / 3, began
    until = began + 200 * every
    while due < until or rehearsal.generation.has_work:
        while due <= clock.now and due < until:
            tokens = draw.randint(6, 28)
            frames = round(tokens * 3.5 * draw.uniform(0.8, 1.2))
            try:
                served.append((due, rehearsal.listen(lasting(frames, text="x" * tokens))))
            except Overloaded as refusal:
                refusals.append(refusal)
            due += every
        if rehearsal.generation.has_work:
            rehearsal.generation.advance()
        else:
            clock.now = due
    waits = [listener.times[0] - came for came, listener in served]
    figure(
        f"a crowd at thrice the pace, steps of {1000 * step:g} ms, {'turns' if parked_mb else 'slots are kept'}",
        f"{len(served)} served, {len(refusals)} refused; waits up to {max(waits):.1f} s of {LONGEST:g} s",
    )
    assert rehearsal.statistics.refused == len(refusals) > 0
    assert all(str(refusal).endswith("the longest wait is 4 s") for refusal in refusals)
    # A slot comes free when a text ends, so nothing can be told more finely than texts are long.
    text_seconds = mean * step
    assert all(0 < (refusal.retry_after_s or 0) <= LONGEST + text_seconds for refusal in refusals)
    assert 0.5 * LONGEST < max(waits) < 1.4 * LONGEST + 0.3 * text_seconds
    if step < 0.080:
        assert not [gap for _, listener in served for gap in listener.gaps]


def test_nobody_is_refused_for_a_wait_when_that_is_switched_off_or_nothing_is_known(checkpoint: Checkpoint) -> None:
    for config, step in ((replace(CONFIG, max_wait_seconds=0), 1.0), (CONFIG, 0.001)):
        rehearsal = rehearsal_of(checkpoint, config, step)
        rehearsal.listen(lasting(3))
        rehearsal.run()
        for _ in range(40):
            rehearsal.listen(lasting(50, text="x" * 20))
    rehearsal = rehearsal_of(checkpoint, CONFIG, 1.0)
    for _ in range(40):
        rehearsal.listen(lasting(50, text="x" * 20))


def test_how_long_texts_are_spoken_is_learned(checkpoint: Checkpoint) -> None:
    """After many that need ten frames a token, one waiting text of eight tokens is known to block a slot for long."""
    one = replace(CONFIG, slots=1, parked_mb=0, max_wait_seconds=7.0)
    learned, fresh = (rehearsal_of(checkpoint, one, 0.1) for _ in range(2))
    fresh.listen(lasting(2))
    fresh.run()
    for _ in range(60):
        learned.listen(lasting(80, text="x" * 8))
        learned.run()
    for rehearsal in (learned, fresh):
        rehearsal.listen(lasting(80, text="x" * 8))
    fresh.listen(lasting(1))
    with pytest.raises(Overloaded, match=r"free in about [78]\.\d s; the longest wait is 7 s"):
        learned.listen(lasting(1))


def test_a_full_line_tells_when_the_first_of_those_inside_will_have_ended(checkpoint: Checkpoint) -> None:
    config = replace(CONFIG, slots=1, max_waiting=1, max_wait_seconds=0, parked_mb=0)
    rehearsal = rehearsal_of(checkpoint, config, 0.1)
    first = rehearsal.listen(lasting(30, text="x" * 10))
    rehearsal.run(until=lambda: len(first.frames) == 12)
    rehearsal.listen(lasting(1))
    with pytest.raises(Overloaded, match=r"2 utterances .* limit is 2 \(1 slots and 1 waiting\)") as refusal:
        rehearsal.listen(lasting(1))
    assert refusal.value.retry_after_s == pytest.approx(0.1 * (30 - 12), abs=0.3)
    assert rehearsal.statistics.refused == 1


def test_an_utterance_that_ends_makes_room_however_it_ends(checkpoint: Checkpoint) -> None:
    rehearsal = rehearsal_of(checkpoint, replace(CONFIG, slots=1, max_waiting=0), 0.1)
    for end in (lambda number: rehearsal.generation.end(number, "cancelled"), lambda number: rehearsal.run()):
        utterance = rehearsal.submit(lasting(3), TimedListener(rehearsal.clock))
        with pytest.raises(Overloaded):
            rehearsal.listen(lasting(1))
        end(utterance.id)
    assert rehearsal.admission.unfinished == 0


def test_who_is_on_the_way_in_when_the_engine_fails_is_told_too(
    engine_with: Callable[[Runner, EngineConfig], Engine],
) -> None:
    """Counted in already, but its message comes after the failure: it must not be left without an end."""
    runner = ScriptedRunner(stepwise=True, fail_at_frame=1)
    engine, first, late = engine_with(runner, SMALL), Listener(), Listener()
    engine.submit(lasting(3), first)
    runner.wait_for_engine()
    utterance, _ = engine._preparation.prepare(lasting(3), late)
    engine._admission.enter(utterance)
    runner.run_freely()
    assert first.outcome.reason == "failed"
    engine._inbox.put(utterance)
    assert late.outcome.reason == "failed"
    with pytest.raises(EngineFailed, match="RuntimeError"):
        engine.submit(lasting(1), Listener())
