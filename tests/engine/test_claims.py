"""Who comes in next and who gives way, one decision at a time: by what each has in hand, at the edges of the rules."""

import math

import pytest

from tests.engine.test_scheduler import utterance
from tts_engine.pace import Limits
from tts_engine.request import Utterance
from tts_engine.scheduler import Scheduler
from tts_engine.turns import AHEAD_SECONDS, RESERVE_SECONDS, Claim, next_claim, tightest_lead

NOW = 50.0
ROOM = Limits(width=2, listeners=10)


def somebody(number: int, lead: float | None, *, dry: bool = False) -> Utterance:
    """One who was let in; lead: seconds of sound in hand, None for one who has heard nothing yet. dry: wants text."""
    made = utterance(number, live=dry)
    made.begin(prompt_length=1, trailing=0, tokens=1, longest=100)
    if lead is not None:
        made.hear(NOW + min(lead, 0.0) - 1.0, max(lead, 0.0) + 1.0)
    return made


def seated(slots: int, running: list[Utterance], parked: list[Utterance], waiting: int = 0) -> Scheduler:
    """A scheduler in that state, and `waiting` newcomers."""
    scheduler = Scheduler(slots)
    for aside in parked:
        scheduler.enqueue(aside)
        scheduler.enter(aside)
        assert scheduler.park(0) is None
    for speaker in running:
        scheduler.enqueue(speaker)
        scheduler.enter(speaker)
    for number in range(waiting):
        scheduler.enqueue(utterance(100 + number))
    return scheduler


def decided(
    scheduler: Scheduler, limits: Limits = ROOM, *, may_park: bool = True
) -> tuple[int | None, int | None] | None:
    """(who gets a slot, which slot must be given up), by next_claim."""
    claim: Claim | None = next_claim(scheduler, limits, may_park=may_park, now=NOW)
    return claim and (claim.utterance and claim.utterance.id, claim.gives_way)


def test_leads_are_what_the_scenes_say() -> None:
    assert [somebody(1, lead).lead(NOW) for lead in (-1.5, 0.0, 2.0, None)] == pytest.approx([-1.5, 0.0, 2.0, 0.0])
    assert tightest_lead([somebody(1, 3.0), somebody(2, 2.0), somebody(3, -1.0, dry=True)], NOW) == pytest.approx(2.0)
    assert tightest_lead([somebody(3, -1.0, dry=True)], NOW) == math.inf, "nobody speaks who could run dry"


@pytest.mark.parametrize(
    ("parked", "running", "expected"),
    [
        ([0.1], [0.25, 0.2], None),  # hardly better off: the two would change places each step
        ([0.1], [0.2, 0.35], (11, 1)),
        ([0.1], [5.0, 0.35], (11, 0)),
        ([0.1, 0.05], [0.2, 0.35], (12, 1)),  # the more urgent of two
        ([RESERVE_SECONDS + 0.01], [5.0, 5.0], None),  # not urgent
        ([-3.0], [None, None], None),  # nobody gives way who has not been heard yet
        ([-3.0], [None, -2.5], (11, 1)),
    ],
)
def test_one_who_runs_dry_takes_the_slot_of_who_is_so_much_better_off(
    parked: list[float], running: list[float | None], expected: tuple[int, int] | None
) -> None:
    aside = [somebody(11 + number, lead) for number, lead in enumerate(parked)]
    speakers = [somebody(1 + number, lead) for number, lead in enumerate(running)]
    assert decided(seated(2, speakers, aside), may_park=False) == expected


def test_one_who_runs_dry_gets_a_free_slot_though_real_time_allows_no_more_rows() -> None:
    scheduler = seated(3, [somebody(1, 5.0), somebody(2, 5.0)], [somebody(11, 0.1)])
    assert decided(scheduler) == (11, None)


def test_one_who_waits_for_text_is_not_urgent_whatever_he_has_in_hand() -> None:
    assert decided(seated(2, [somebody(1, 0.5), somebody(2, 0.5)], [somebody(11, -9.0, dry=True)])) is None


@pytest.mark.parametrize(("ahead", "gives_way"), [(AHEAD_SECONDS + 0.01, True), (AHEAD_SECONDS - 0.01, False)])
def test_a_newcomer_gets_the_slot_of_who_is_far_ahead(ahead: float, gives_way: bool) -> None:
    scheduler = seated(2, [somebody(1, 0.5), somebody(2, ahead)], [], waiting=2)
    assert decided(scheduler) == ((100, 1) if gives_way else None)
    assert decided(scheduler, may_park=False) is None, "there is no memory to set anybody aside"
    assert decided(scheduler, Limits(width=2, listeners=2)) is None, "no more can share these rows in real time"


def test_a_newcomer_takes_a_free_slot_while_real_time_allows_one_more_row() -> None:
    assert decided(seated(3, [somebody(1, 0.1)], [], waiting=1)) == (100, None)
    assert decided(seated(3, [somebody(1, 0.1), somebody(2, 0.1)], [], waiting=1)) is None


def test_rows_that_all_wait_for_text_keep_nobody_from_a_free_slot() -> None:
    """They cost no step, so real time says nothing about how many there may be."""
    scheduler = seated(3, [somebody(1, 0.1, dry=True), somebody(2, 0.1, dry=True)], [], waiting=1)
    assert decided(scheduler) == (100, None)


@pytest.mark.parametrize("lead", [9.0, RESERVE_SECONDS - 0.1])
def test_a_row_that_waits_for_text_is_given_up_for_who_has_some(lead: float) -> None:
    scheduler = seated(2, [somebody(1, 0.1), somebody(2, -1.0, dry=True)], [somebody(11, lead)])
    assert decided(scheduler, may_park=False) == (11, 1)


def test_one_who_has_just_got_his_slot_keeps_it_though_no_text_of_his_is_laid_out() -> None:
    """Within one round others are let in too, and he looks like one who waits for text."""
    newcomer = utterance(1, live=True)
    assert newcomer.dry
    assert decided(seated(1, [newcomer], [somebody(11, RESERVE_SECONDS + 1.0)])) is None


def test_more_rows_than_real_time_allows_are_given_up_by_who_can_be_set_aside() -> None:
    speakers = [somebody(1, 0.1), somebody(2, AHEAD_SECONDS + 0.5), somebody(3, 0.2)]
    assert decided(seated(3, speakers, [])) == (None, 1)
    assert decided(seated(3, speakers, []), may_park=False) is None
    assert decided(seated(3, [somebody(number, 0.5) for number in (1, 2, 3)], [])) is None
