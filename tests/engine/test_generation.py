"""What happens between two looks into the inbox, on a clock of the tests' own: who is held up by whom, what a step
is taken to cost, which rows are moved, and what becomes of what was read ahead.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest

from tests.engine.rehearsal import Clock, Rehearsal, TimedListener, TimedRunner, lasting
from tts_engine import EngineConfig
from tts_engine.checkpoint import Checkpoint
from tts_engine.runner import Prefilled

CONFIG = EngineConfig(slots=24, max_waiting=1_000, max_wait_seconds=0, segment_tokens=4_000, parked_mb=1)
# Sentences of a few tokens and of 18, which a segment of 20 cannot hold together.
SEGMENTED = replace(CONFIG, slots=2, segment_tokens=20)
SHORT, LONG = "One of it.", "X" * 17 + "."


def rehearsal_of(checkpoint: Checkpoint, config: EngineConfig, runner: TimedRunner, clock: Clock) -> Rehearsal:
    """One in which steps and prompts are known: three have been heard before."""
    rehearsal = Rehearsal(checkpoint, config, runner, clock)
    for _ in range(3):
        rehearsal.listen(lasting(2))
        rehearsal.run()
    return rehearsal


def staged(
    checkpoint: Checkpoint, config: EngineConfig = CONFIG, *, step: float = 0.010, prompt: float = 0.0, ahead: int = 0
) -> Rehearsal:
    clock = Clock()
    return rehearsal_of(checkpoint, config, TimedRunner(clock, lambda rows: step, prompt=prompt, ahead=ahead), clock)


def runner_of(rehearsal: Rehearsal) -> TimedRunner:
    assert isinstance(rehearsal.runner, TimedRunner)
    return rehearsal.runner


@pytest.mark.parametrize(
    ("step", "prompt", "read"),
    [
        (0.010, 0.0051, 9),  # 50 ms of prompts, though the speaker has 70 to spare
        (0.036, 0.0051, 8),  # the 44 ms it has to spare
        (0.062, 0.0101, 6),  # a step's worth, though it has but 18
    ],
)
def test_of_a_crowd_beside_one_who_speaks_so_many_come_in_as_he_can_bear(
    checkpoint: Checkpoint, step: float, prompt: float, read: int
) -> None:
    rehearsal = staged(checkpoint, step=step, prompt=prompt)
    speaker = rehearsal.listen(lasting(60))
    rehearsal.run(until=lambda: len(speaker.times) == 1)
    before = len(runner_of(rehearsal).prompts)
    for _ in range(20):
        rehearsal.listen(lasting(5))
    rehearsal.generation.advance()
    assert len(runner_of(rehearsal).prompts) - before == read
    if step < 0.050:
        rehearsal.run()
        assert speaker.gaps == []


def test_one_between_two_segments_is_held_up_no_more_than_within_one(checkpoint: Checkpoint) -> None:
    """He has made no frame of the new segment, but his listener plays."""
    rehearsal = staged(checkpoint, replace(SEGMENTED, slots=8), step=0.030, prompt=0.030)
    speaker = TimedListener(rehearsal.clock)
    utterance = rehearsal.submit(lasting(3, text=f"{SHORT} {LONG}"), speaker)
    rehearsal.run(until=lambda: utterance.generation == 2)
    before = len(runner_of(rehearsal).prompts)
    for _ in range(7):
        rehearsal.listen(lasting(3))
    rehearsal.generation.advance()
    assert len(runner_of(rehearsal).prompts) - before == 1
    rehearsal.run()
    assert speaker.gaps == []


@pytest.mark.parametrize("unready", [0, 6])
def test_who_cannot_come_in_does_not_count_when_the_first_sounds_of_a_crowd_are_weighed(
    checkpoint: Checkpoint, unready: int
) -> None:
    """Two slots: whether six more wait for one of them or for their text, the two are heard as if alone."""
    waits = []
    for company in (0, 6):
        rehearsal = staged(checkpoint, replace(CONFIG, slots=2 if not unready else 8), step=0.100, prompt=0.150)
        began = rehearsal.clock.now
        pair = [rehearsal.listen(lasting(3)) for _ in range(2)]
        for number in range(company):
            live = replace(lasting(3), text="", utterance=str(number), text_complete=False)
            rehearsal.listen(live if unready else lasting(3))
        rehearsal.run(until=lambda pair=pair: all(listener.times for listener in pair))  # type: ignore[misc]
        waits.append([listener.times[0] - began for listener in pair])
    assert waits[0] == pytest.approx(waits[1])
    assert waits[0] == pytest.approx([0.250, 0.500])


def test_no_more_than_four_change_places_in_a_step(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, slots=8), prompt=0.001)
    speakers = [rehearsal.listen(lasting(60)) for _ in range(8)]
    rehearsal.run(until=lambda: len(speakers[-1].times) == 20)
    for _ in range(8):
        rehearsal.listen(lasting(5))
    runner, counts = runner_of(rehearsal), []
    for _ in range(2):
        rehearsal.generation.advance()
        counts.append(runner.parkings)
    assert counts == [4, 8]


def test_where_no_memory_is_given_for_it_nobody_is_ever_set_aside(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, slots=1, parked_mb=0))
    speaker = rehearsal.listen(lasting(60))
    rehearsal.run(until=lambda: len(speaker.times) == 20)
    rehearsal.listen(lasting(5))
    rehearsal.run()
    assert runner_of(rehearsal).parkings == 0


def test_who_has_just_been_seated_is_not_moved_before_its_prompt_is_read(checkpoint: Checkpoint) -> None:
    """Two who wait for text are all there is, and nobody counts them as rows; with one who speaks they are too many."""
    rehearsal = staged(checkpoint, replace(CONFIG, slots=4))
    for _ in range(4):
        for rows in range(1, 5):
            rehearsal.pace.stepped(rows, 0.040 * rows, rehearsal.clock.now)
    assert rehearsal.pace.limits.width == 1
    for number in range(2):
        live = replace(lasting(9), text="", utterance=str(number), text_complete=False)
        rehearsal.generation.extend(rehearsal.submit(live, TimedListener(rehearsal.clock)).id, [1, 2], complete=False)
    rehearsal.run()
    speaker = rehearsal.listen(lasting(3))
    rehearsal.run()
    assert speaker.outcome.reason == "complete"


def test_a_row_that_waits_for_text_behind_all_who_speak_takes_no_part_in_a_step(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint)
    speaker = rehearsal.listen(lasting(9))
    rehearsal.run(until=lambda: len(speaker.times) == 2)
    live = replace(lasting(9), text="", utterance="u", text_complete=False)
    rehearsal.generation.extend(rehearsal.submit(live, TimedListener(rehearsal.clock)).id, [1, 2], complete=False)
    before = len(runner_of(rehearsal).sizes)
    rehearsal.run()
    # The first token is in the prompt, the second makes a frame.
    assert runner_of(rehearsal).sizes[before:] == [2, *[1] * 7]


def test_the_time_text_stayed_away_is_not_taken_for_a_prompts(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, prompt=0.020)
    live = replace(lasting(9), text="", utterance="u", text_complete=False)
    utterance = rehearsal.submit(live, TimedListener(rehearsal.clock))
    rehearsal.generation.extend(utterance.id, [1], complete=False)
    rehearsal.run()
    assert (utterance.generation, utterance.frames) == (1, 0)
    rehearsal.clock.now += 5.0
    rehearsal.generation.extend(utterance.id, [2, 3], complete=True)
    rehearsal.run()
    assert rehearsal.pace.prompt_seconds == pytest.approx(0.020)
    assert rehearsal.pace.step_seconds(1) == pytest.approx(0.010)


def test_of_those_who_end_together_none_is_moved_into_the_place_of_another(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint)
    for frames in (9, 9, 4, 4, 4):
        rehearsal.listen(lasting(frames))
    rehearsal.run()
    assert runner_of(rehearsal).moves == []


@pytest.mark.parametrize("ahead", [0, 1])
def test_steps_and_prompts_are_taken_to_cost_what_they_cost(checkpoint: Checkpoint, ahead: int) -> None:
    """Though a step is launched while another is under way, and the prompts of segments are read between them."""
    rehearsal = staged(checkpoint, SEGMENTED, step=0.020, prompt=0.007, ahead=ahead)
    rehearsal.listen(lasting(4, text=f"{SHORT} {LONG} " * 6))
    rehearsal.run()
    statistics = rehearsal.statistics
    assert rehearsal.pace.step_seconds(1) == pytest.approx(0.020)
    assert rehearsal.pace.prompt_seconds == pytest.approx(0.007)
    assert statistics.steps == runner_of(rehearsal).made
    prompts = len(runner_of(rehearsal).prompts)
    assert statistics.step_seconds_total == pytest.approx(0.020 * statistics.steps + 0.007 * prompts)


def test_nobody_waits_at_a_seam_for_the_next_segment_to_be_read(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, SEGMENTED, step=0.020, prompt=0.050)
    listener = rehearsal.listen(lasting(8, text=f"{SHORT} {LONG}"))
    rehearsal.run()
    assert len(listener.segments) == 2
    # One step finds that the segment has ended.
    assert listener.times[8] - listener.times[7] == pytest.approx(2 * 0.020)


class Remembering(TimedRunner):
    """Knows of each prompt it has read whether anybody has it still."""

    read: list[weakref.ref[Prefilled]]

    def prepare(self, *wanted: Any) -> Prefilled:
        prefilled = super().prepare(*wanted)
        self.read.append(weakref.ref(prefilled))
        return prefilled


def test_what_was_read_ahead_for_one_who_leaves_is_given_back(checkpoint: Checkpoint) -> None:
    clock = Clock()
    runner = Remembering(clock, lambda rows: 0.010)
    runner.read = []
    rehearsal = rehearsal_of(checkpoint, SEGMENTED, runner, clock)
    listener = TimedListener(clock)
    utterance = rehearsal.submit(lasting(9, text=f"{SHORT} {LONG}"), listener)
    rehearsal.run(until=lambda: len(listener.times) == 2)
    gc.collect()
    assert sum(prefilled() is not None for prefilled in runner.read) == 1, "the second segment is at hand"
    rehearsal.generation.end(utterance.id, "cancelled")
    gc.collect()
    assert [prefilled() for prefilled in runner.read] == [None] * len(runner.read)


def test_what_was_set_aside_for_one_who_leaves_is_given_back(checkpoint: Checkpoint) -> None:
    """Else the memory for it fills, and in the end nobody would give way to anybody."""
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: 0.010, parked_bytes=1_000_000)
    rehearsal = rehearsal_of(checkpoint, replace(CONFIG, slots=1), runner, clock)
    for number in range(1, 4):
        speaker = TimedListener(clock)
        utterance = rehearsal.submit(lasting(40), speaker)
        rehearsal.run(until=lambda speaker=speaker: len(speaker.times) == 20)  # type: ignore[misc]
        newcomer = rehearsal.listen(lasting(3))
        rehearsal.run(until=lambda newcomer=newcomer: bool(newcomer.times))  # type: ignore[misc]
        assert runner.parkings == number
        assert rehearsal.statistics.parked == 1
        rehearsal.generation.end(utterance.id, "cancelled")
        rehearsal.run()


@pytest.mark.parametrize(("text", "first_is_cut"), [(f"{SHORT} {LONG}", True), (f"{LONG} {SHORT}", False)])
def test_who_was_cut_short_in_any_segment_has_not_been_spoken_to_its_end(
    checkpoint: Checkpoint, text: str, first_is_cut: bool
) -> None:
    """Of 200 frames the short sentence may have 192, the long one 216."""
    rehearsal = staged(checkpoint, SEGMENTED)
    listener = rehearsal.listen(lasting(200, text=text))
    rehearsal.run()
    numbers = listener.codes[:, 1].tolist()
    assert numbers == [*range(192), *range(200)] if first_is_cut else [*range(200), *range(192)]
    assert listener.outcome.reason == "max_length"


def test_how_long_one_waited_for_its_slot_is_told(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, slots=1, parked_mb=0), step=0.100)
    first, second = (rehearsal.listen(lasting(9)) for _ in range(2))
    rehearsal.run()
    assert first.timings["queue_s"] == 0.0
    assert second.timings["queue_s"] == pytest.approx(1.0)
    assert second.timings["first_audio_s"] == pytest.approx(1.1)
    assert second.timings["total_s"] == pytest.approx(2.0)


def test_silence_for_want_of_text_is_no_underrun_and_silence_for_want_of_steps_is_one(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint)
    live = replace(lasting(9), text="", utterance="u", text_complete=False)
    utterance = rehearsal.submit(live, TimedListener(rehearsal.clock))
    for complete in (False, True):
        rehearsal.generation.extend(utterance.id, [1, 2, 3], complete=complete)
        rehearsal.run(until=lambda: complete and utterance.landed == 4)  # noqa: B023
        rehearsal.clock.now += 5.0
    assert rehearsal.statistics.underruns == 0
    rehearsal.run()
    assert rehearsal.statistics.underruns == 1
