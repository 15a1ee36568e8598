"""What the durations of steps let the engine promise."""

import pytest

from tts_engine.pace import Limits, Pace


def measured(slots: int, seconds: dict[int, float], times: int = 10) -> Pace:
    pace = Pace(slots)
    for _ in range(times):
        for rows, took in seconds.items():
            pace.stepped(rows, took, 0.0)
    return pace


def test_before_anything_is_measured_every_slot_may_be_used_by_one() -> None:
    assert Pace(8).limits == Limits(8, 8)
    assert Pace(8).step_seconds(3) == 0.0


def test_a_step_that_takes_a_fourth_of_its_sound_lets_more_than_three_share_each_row() -> None:
    limits = measured(10, {10: 0.020}).limits
    assert (limits.width, limits.listeners) == (10, 32)
    assert limits.frames_per_second == pytest.approx(500)


def test_steps_too_slow_for_real_time_are_not_made_when_smaller_ones_are_fast_enough() -> None:
    assert measured(8, {2: 0.030, 3: 0.060, 4: 0.090}).limits.width == 3
    assert measured(8, {2: 0.030, 6: 0.090}).limits.width == 4, "between the two nothing is known"
    assert measured(8, {2: 0.030, 4: 0.076}).limits.width == 3, "a step is not all there is to do in its 80 ms"


def test_where_real_time_cannot_be_held_at_all_every_slot_is_used() -> None:
    assert measured(8, {1: 0.2, 8: 0.5}).limits == Limits(8, 8, pytest.approx(16))


def test_one_hiccup_is_no_verdict() -> None:
    pace = measured(8, {2: 0.030, 4: 0.040})
    pace.stepped(4, 0.3, 0.0)
    pace.stepped(6, 0.3, 0.0)
    assert pace.limits.width == 8
    pace = measured(8, {4: 0.079})
    pace.stepped(2, 0.060, 0.0)
    assert pace.limits.width == 8, "nor is one lucky step"


def test_a_process_that_was_stopped_for_a_minute_is_as_fast_as_before() -> None:
    pace = measured(8, {2: 0.010})
    pace.stepped(2, 60.0, 0.0)
    assert pace.step_seconds(2) <= 0.014
    pace.read(1, 2, 0.020)
    pace.read(1, 2, 60.0)
    assert pace.prompt_seconds <= 0.014
    pace = Pace(8)
    pace.stepped(2, 60.0, 0.0)
    pace.stepped(2, 0.010, 0.0)
    assert pace.step_seconds(2) <= 0.040, "nor does it matter when that was the first step of all"


def test_a_device_that_has_become_slow_is_soon_known_to_be() -> None:
    pace = measured(8, {2: 0.010})
    for _ in range(40):
        pace.stepped(2, 0.5, 0.0)
    assert pace.step_seconds(2) >= 0.4


def test_what_was_too_slow_is_tried_again_after_a_while() -> None:
    pace = measured(8, {2: 0.030, 4: 0.090})
    assert pace.limits.width == 3
    for second in range(40):
        pace.stepped(2, 0.030, float(second))
    assert pace.limits.width == 8
    pace.stepped(4, 0.050, 41.0)
    assert pace.step_seconds(4) == 0.050, "what was forgotten counts for nothing"


def test_a_size_never_tried_is_taken_to_be_like_the_next_one() -> None:
    pace = measured(16, {2: 0.010, 8: 0.020})
    assert [pace.step_seconds(rows) for rows in (1, 3, 5, 7, 16)] == [0.010, 0.010, 0.020, 0.020, 0.020]


def test_as_many_prompts_are_read_as_fit_a_time_and_one_always() -> None:
    pace = measured(4, {2: 0.010})
    assert pace.prompts_within(1.0) == 1, "none has been read yet"
    pace.read(2, 2, 0.030)
    assert pace.prompt_seconds == pytest.approx(0.010)
    assert [pace.prompts_within(seconds) for seconds in (-1.0, 0.0, 0.015, 0.035)] == [1, 1, 1, 3]


def test_prompts_too_cheap_to_be_measured_come_in_together_until_they_are_dearer() -> None:
    pace = Pace(8)
    pace.stepped(4, 0.08, 1.0)
    for _ in range(20):
        pace.read(1, 4, 0.079)
    assert pace.prompts_within(0.05) >= 49
    for _ in range(40):
        pace.read(1, 4, 0.1)
    assert pace.prompts_within(0.05) == 2


def test_a_prompt_read_before_any_step_was_measured_counts_until_one_was() -> None:
    pace = Pace(4)
    pace.read(1, 1, 0.030)
    assert pace.prompt_seconds == 0.030, "how much of it was the step is not known"
    pace.stepped(1, 0.010, 0.0)
    for _ in range(2):
        pace.read(1, 1, 0.015)
        assert pace.prompt_seconds == pytest.approx(0.005)


@pytest.mark.parametrize("prompt", [0.001, 0.010, 0.050, 0.100, 0.230, 1.0])
def test_before_anybody_speaks_so_many_prompts_are_read_that_all_are_heard_no_later_on_average(prompt: float) -> None:
    """Written out for steps of 100 ms, in which one prompt a step can be borne once somebody speaks."""
    pace = measured(8, {1: 0.1, 8: 0.1})
    pace.read(1, 1, 0.1 + prompt)
    read = pace.opening(0, 8)
    a_step = max(1, int(0.1 / prompt))

    def mean(first: int) -> float:
        heard = [first * prompt + 0.1] * first
        while len(heard) < 8:
            joining = min(a_step, 8 - len(heard))
            heard += [heard[-1] + joining * prompt + 0.1] * joining
        return sum(heard) / 8

    least = min(8, max(1, int(0.05 / prompt)))
    assert mean(read) <= mean(least) * 1.0001
    assert read == max(first for first in range(least, 9) if mean(first) <= mean(least) * 1.0001)
    assert pace.opening(3, 0) == 0


def test_before_anything_is_measured_one_prompt_is_read() -> None:
    assert (Pace(8).opening(0, 8), Pace(8).opening(1, 7)) == (1, 0)
