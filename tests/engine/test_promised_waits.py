"""How long one is told to wait, reckoned by hand: from what those inside have still to say, and from who comes before.

Nothing else is known of a text than that texts have needed three frames a token, and 60 frames in all.
"""

from dataclasses import replace

import pytest

from tests.engine.rehearsal import Clock, Rehearsal, TimedListener, TimedRunner, lasting
from tts_engine import EngineConfig, Overloaded, Speak
from tts_engine.checkpoint import Checkpoint
from tts_engine.request import Utterance

STEP, LONGEST = 0.1, 1.0
CONFIG = EngineConfig(slots=1, max_waiting=1_000, max_wait_seconds=LONGEST, segment_tokens=4_000, parked_mb=0)
LIVE = Speak(text="", voice="ryan", seed=900, utterance="u", text_complete=False)


def staged(checkpoint: Checkpoint, config: EngineConfig = CONFIG) -> Rehearsal:
    clock = Clock()
    rehearsal = Rehearsal(checkpoint, config, TimedRunner(clock, lambda rows: STEP), clock)
    for rows in range(1, config.slots + 1):
        rehearsal.pace.stepped(rows, STEP, clock.now)
    return rehearsal


def text_of(tokens: int, frames: int = 900) -> Speak:
    return lasting(frames, text="x" * tokens)


def heard(rehearsal: Rehearsal, speak: Speak, frames: int) -> Utterance:
    """One who has been let in and has heard so much."""
    listener = TimedListener(rehearsal.clock)
    utterance = rehearsal.submit(speak, listener)
    if speak.is_live:
        rehearsal.generation.extend(utterance.id, list(range(frames + 1)), complete=False)
    rehearsal.run(until=lambda: len(listener.frames) == frames)
    return utterance


def seated(rehearsal: Rehearsal, texts: tuple[int, ...]) -> list[Utterance]:
    """Texts of so many tokens, each in a slot."""
    utterances = [rehearsal.submit(text_of(tokens), TimedListener(rehearsal.clock)) for tokens in texts]
    rehearsal.run(until=lambda: all(utterance.landed for utterance in utterances))
    return utterances


def wait_in_frames(rehearsal: Rehearsal, longest: float = LONGEST) -> float:
    """After how many steps one who comes now is told that a slot would be free."""
    with pytest.raises(Overloaded, match="the longest wait is") as refusal:
        rehearsal.listen(text_of(1))
    assert refusal.value.retry_after_s is not None
    return (refusal.value.retry_after_s + longest) / STEP


def test_a_slot_comes_free_when_its_text_has_been_said(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint)
    heard(rehearsal, text_of(20), 7)
    assert wait_in_frames(rehearsal) == pytest.approx(60 - 7)


def test_whoever_waits_already_comes_first(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, max_wait_seconds=6.0))
    heard(rehearsal, text_of(20), 7)
    rehearsal.listen(text_of(10))
    assert wait_in_frames(rehearsal, 6.0) == pytest.approx(60 - 7 + 30)


def test_of_several_slots_the_first_to_come_free_counts(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, slots=3))
    _, shortest, _ = seated(rehearsal, (30, 12, 20))
    assert wait_in_frames(rehearsal) == pytest.approx(36 - shortest.landed)


def test_where_more_are_inside_than_real_time_allows_the_first_to_end_make_room_for_nobody(
    checkpoint: Checkpoint,
) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, slots=4))
    _, _, third, _ = seated(rehearsal, (10, 20, 30, 40))
    for _ in range(4):
        for rows, seconds in ((2, 0.06), (3, 0.09)):
            rehearsal.pace.stepped(rows, seconds, rehearsal.clock.now + 100)
    assert rehearsal.pace.limits.width == 2
    assert wait_in_frames(rehearsal) * STEP / 0.06 == pytest.approx(90 - third.landed)


def test_one_who_speaks_longer_than_was_thought_is_taken_to_need_a_tenth_more(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint, replace(CONFIG, max_wait_seconds=0.1))
    heard(rehearsal, text_of(20), 100)
    assert wait_in_frames(rehearsal, 0.1) == pytest.approx(6)


def test_nobody_is_taken_to_need_more_than_he_may_have(checkpoint: Checkpoint) -> None:
    rehearsal = staged(checkpoint)
    heard(rehearsal, replace(text_of(100), max_frames=40), 7)
    assert wait_in_frames(rehearsal) == pytest.approx(40 - 7)


@pytest.mark.parametrize(
    ("written", "complete", "frames"), [(6, False, 60), (6, True, 18), (40, False, 120), (40, True, 120)]
)
def test_text_that_is_being_written_is_taken_to_become_as_long_as_texts_are(
    checkpoint: Checkpoint, written: int, complete: bool, frames: int
) -> None:
    rehearsal = staged(checkpoint)
    utterance = heard(rehearsal, LIVE, 5)
    rehearsal.generation.extend(utterance.id, list(range(written - 6)), complete=complete)
    assert wait_in_frames(rehearsal) == pytest.approx(frames - 5)


@pytest.mark.parametrize(("parked_mb", "listeners"), [(0, 4), (64, 25)])
def test_there_is_room_for_as_many_as_can_share_the_rows_or_one_a_row_where_none_is_set_aside(
    checkpoint: Checkpoint, parked_mb: int, listeners: int
) -> None:
    """Steps of 10 ms: 400 frames a second, of which four fifths feed 25 who play 12.5. So many take turns of it."""
    rehearsal = staged(checkpoint, replace(CONFIG, slots=4, max_wait_seconds=0.5, parked_mb=parked_mb))
    for _ in range(10):
        rehearsal.pace.stepped(4, 0.01, rehearsal.clock.now + 100)
    for _ in range(listeners):
        rehearsal.listen(text_of(100))
    with pytest.raises(Overloaded) as refusal:
        rehearsal.listen(text_of(100))
    assert refusal.value.retry_after_s == pytest.approx(300 * listeners / 400 - 0.5, abs=0.01)


def test_a_full_line_tells_of_the_first_who_ends_of_those_who_speak(checkpoint: Checkpoint) -> None:
    """Who only waits ends nothing, however little he has to say."""
    rehearsal = staged(checkpoint, replace(CONFIG, slots=2, max_waiting=1, max_wait_seconds=0))
    _, shorter = seated(rehearsal, (40, 20))
    rehearsal.listen(text_of(1))
    with pytest.raises(Overloaded, match="3 utterances are running or waiting; the limit is 3") as refusal:
        rehearsal.listen(text_of(1))
    assert refusal.value.retry_after_s == pytest.approx(STEP * (60 - shorter.landed))
    assert rehearsal.statistics.refused == 1


@pytest.mark.parametrize(("overdue", "told"), [(False, STEP * 3), (True, 0.1)])
def test_nobody_is_told_to_come_again_sooner_than_in_a_tenth_of_a_second(
    checkpoint: Checkpoint, overdue: bool, told: float
) -> None:
    """A tenth of three frames is all that is left of one who speaks longer than was thought."""
    rehearsal = staged(checkpoint, replace(CONFIG, max_waiting=0, max_wait_seconds=0))
    heard(rehearsal, text_of(2), 9 if overdue else 3)
    with pytest.raises(Overloaded) as refusal:
        rehearsal.listen(text_of(1))
    assert refusal.value.retry_after_s == pytest.approx(told)


def test_where_nothing_is_known_no_time_is_told(checkpoint: Checkpoint) -> None:
    full = replace(CONFIG, max_waiting=0, max_wait_seconds=0)
    rehearsal = Rehearsal(checkpoint, full, TimedRunner(Clock(), lambda rows: STEP))
    utterance = rehearsal.submit(text_of(9), TimedListener(rehearsal.clock))
    for seated in (False, True):
        assert (utterance.admitted is not None) == seated
        with pytest.raises(Overloaded) as refusal:
            rehearsal.listen(text_of(1))
        assert refusal.value.retry_after_s is None
        rehearsal.generation.advance()


def test_only_texts_that_were_said_to_their_end_teach_how_long_texts_are(checkpoint: Checkpoint) -> None:
    """Not those that were left, nor a live text without a word; and one that is odd teaches little."""
    rehearsal = staged(checkpoint)
    for number in range(60):
        left = heard(rehearsal, text_of(200), 1)
        rehearsal.generation.end(left.id, "cancelled")
        blank = rehearsal.submit(replace(LIVE, utterance=f"u{number}"), TimedListener(rehearsal.clock))
        rehearsal.generation.extend(blank.id, [], complete=True)
    assert [reason for _, reason in rehearsal.ended] == ["cancelled", "complete"] * 60
    heard(rehearsal, LIVE, 5)
    assert wait_in_frames(rehearsal) == pytest.approx(60 - 5)
    odd = staged(checkpoint)
    odd.listen(text_of(4, frames=180))
    odd.run()
    heard(odd, text_of(20), 7)
    assert wait_in_frames(odd) == pytest.approx(20 * (60 + 0.05 * 120) / (20 - 0.05 * 16) - 7, abs=0.1)
