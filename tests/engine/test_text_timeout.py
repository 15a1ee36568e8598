"""How long text may stay away, on a clock of the tests' own: from when its utterance waits for it, and for nothing
else.
"""

from dataclasses import replace

import pytest

from tests.engine.rehearsal import Clock, Rehearsal, TimedListener, TimedRunner, lasting
from tts_engine import EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint
from tts_engine.request import Utterance

IDLE = 5.0
CONFIG = EngineConfig(slots=1, max_waiting=100, max_wait_seconds=0, text_idle_seconds=IDLE, parked_mb=0)


def staged(checkpoint: Checkpoint, config: EngineConfig = CONFIG, *, ahead: int = 0) -> Rehearsal:
    """Steps of a second, so that text lasts longer than it may stay away."""
    clock = Clock()
    return Rehearsal(checkpoint, config, TimedRunner(clock, lambda rows: 1.0, ahead=ahead), clock)


def written(rehearsal: Rehearsal, ids: int, name: str = "u") -> tuple[Utterance, TimedListener]:
    """An utterance of which so many ids have come."""
    listener = TimedListener(rehearsal.clock)
    speak = Speak(text="", voice="ryan", seed=90, utterance=name, text_complete=False)
    utterance = rehearsal.submit(speak, listener)
    if ids:
        rehearsal.generation.extend(utterance.id, list(range(1, 1 + ids)), complete=False)
    return utterance, listener


def waits_until(rehearsal: Rehearsal, listener: TimedListener, moment: float) -> None:
    """It is still there right before the moment, and not at it."""
    assert rehearsal.generation.deadline() == pytest.approx(moment)
    rehearsal.clock.now = moment - 0.001
    rehearsal.generation.advance()
    assert not listener.outcomes
    rehearsal.clock.now = moment + 0.001
    rehearsal.generation.advance()
    assert listener.outcome.reason == "text_timeout"
    assert rehearsal.generation.deadline() is None


@pytest.mark.parametrize("ahead", [0, 1])
def test_text_may_stay_away_so_long_from_when_what_came_has_been_said(checkpoint: Checkpoint, ahead: int) -> None:
    rehearsal = staged(checkpoint, ahead=ahead)
    _, listener = written(rehearsal, 9)
    rehearsal.run()
    assert listener.times[-1] - listener.times[0] > IDLE, "its writer has been silent for longer already"
    waits_until(rehearsal, listener, listener.times[-1] + IDLE)


@pytest.mark.parametrize("ids", [1, 2])
@pytest.mark.parametrize("ahead", [0, 1])
def test_one_who_waited_long_for_its_slot_has_not_kept_anybody_waiting(
    checkpoint: Checkpoint, ahead: int, ids: int
) -> None:
    """What came of its text is said at least, and then it is its writer's turn."""
    rehearsal = staged(checkpoint, ahead=ahead)
    rehearsal.listen(lasting(9))
    _, listener = written(rehearsal, ids)
    rehearsal.run()
    assert not listener.outcomes
    waits_until(rehearsal, listener, rehearsal.clock.now + IDLE)


def test_text_may_stay_away_so_long_before_its_first_word(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint)
    _, listener = written(rehearsal, 0)
    waits_until(rehearsal, listener, rehearsal.clock.now + IDLE)


def test_one_whose_voice_is_being_made_is_not_late(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint)
    utterance, listener = written(rehearsal, 0)
    utterance.awaits_voice = True
    assert rehearsal.generation.deadline() is None
    rehearsal.clock.now += 10 * IDLE
    rehearsal.generation.advance()
    assert not listener.outcomes


def test_of_several_who_wait_the_first_is_the_next_to_end(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, slots=2))
    began = rehearsal.clock.now
    _, first = written(rehearsal, 0, "first")
    rehearsal.clock.now += 2.0
    _, second = written(rehearsal, 0, "second")
    assert rehearsal.generation.deadline() == began + IDLE
    rehearsal.clock.now = began + IDLE
    rehearsal.generation.advance()
    assert first.outcome.reason == "text_timeout"
    waits_until(rehearsal, second, began + 2.0 + IDLE)
