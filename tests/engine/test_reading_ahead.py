"""When the next segment of a text is read: before it is needed, and when no listener notices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.engine.rehearsal import Clock, Rehearsal, TimedListener, TimedRunner, lasting
from tts_engine import EngineConfig
from tts_engine.checkpoint import Checkpoint

# A sentence of a few tokens and one of 18, which a segment of 20 cannot hold together.
CONFIG = EngineConfig(slots=2, max_wait_seconds=0, segment_tokens=20)
TWO_SEGMENTS = "One of it. " + "X" * 17 + "."


def staged(checkpoint: Checkpoint, *, step: float, prompt: float) -> tuple[Rehearsal, TimedRunner, Clock]:
    """One in which steps and prompts are known: three have been heard before."""
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: step, prompt=prompt)
    rehearsal = Rehearsal(checkpoint, CONFIG, runner, clock)
    for _ in range(3):
        rehearsal.listen(lasting(2))
        rehearsal.run()
    return rehearsal, runner, clock


def test_a_prompt_that_takes_longer_than_a_frame_is_read_ahead_once_there_is_enough_in_hand(
    checkpoint: Checkpoint,
) -> None:
    """With each step 50 ms more are in hand, and it takes 200."""
    rehearsal, runner, clock = staged(checkpoint, step=0.030, prompt=0.200)
    listener = TimedListener(clock)
    utterance = rehearsal.submit(lasting(12, text=TWO_SEGMENTS), listener)
    before = len(runner.prompts)
    rehearsal.run(until=lambda: utterance.generation == 2)
    assert len(runner.prompts) == before + 2
    rehearsal.run()
    assert listener.gaps == []


def test_nobody_else_is_held_up_by_what_is_read_ahead(checkpoint: Checkpoint) -> None:
    """Whoever has just begun has no more in hand than a frame, however much the speaker has."""
    rehearsal, _, clock = staged(checkpoint, step=0.030, prompt=0.200)
    rehearsal.submit(lasting(40, text=TWO_SEGMENTS), speaker := TimedListener(clock))
    other = rehearsal.listen(lasting(40))
    rehearsal.run()
    # The newcomer's own prompt, for which he does not wait until the speaker can bear it.
    assert speaker.gaps == [pytest.approx(0.150)]
    assert other.gaps == []


def test_who_can_never_spare_the_time_is_read_to_when_it_is_needed(checkpoint: Checkpoint) -> None:
    rehearsal, runner, clock = staged(checkpoint, step=0.090, prompt=0.100)
    utterance = rehearsal.submit(replace(lasting(5), text=TWO_SEGMENTS), listener := TimedListener(clock))
    before = len(runner.prompts)
    rehearsal.run(until=lambda: len(listener.times) == 5)
    assert (utterance.generation, len(runner.prompts)) == (1, before + 1)
    rehearsal.run()
    assert len(listener.times) == 10
