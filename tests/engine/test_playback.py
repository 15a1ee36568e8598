"""What a listener has in hand, beside a player that is run through step by step."""

from hypothesis import given
from hypothesis import strategies as st

from tts_engine.playback import Playback

TICKS_PER_SECOND = 16
"""A power of two, so that sums of ticks are exact."""

ticks = st.integers(0, 40)


@given(st.lists(st.tuples(ticks, ticks), min_size=1, max_size=20), ticks)
def test_a_player_that_is_run_step_by_step_has_as_much_in_hand(arrivals: list[tuple[int, int]], after: int) -> None:
    playback, in_hand, waited, now = Playback(), 0, 0, 0
    for number, (pause, amount) in enumerate([*arrivals, (after, 0)]):
        for _ in range(pause):
            now += 1
            in_hand, waited = (in_hand - 1, 0) if in_hand else (0, waited + 1)
        if number:
            assert playback.lead(now / TICKS_PER_SECOND) == (in_hand - waited) / TICKS_PER_SECOND
        if number < len(arrivals):
            playback.add(amount / TICKS_PER_SECOND, now / TICKS_PER_SECOND)
            in_hand, waited = in_hand + amount, 0


def test_a_wait_that_is_excused_is_not_counted_and_takes_nothing_from_what_is_in_hand() -> None:
    playback = Playback()
    playback.excuse(5.0)
    assert playback.lead(7.0) == 0.0, "nothing has come that could have run out"
    playback.add(1.0, now=10.0)
    playback.excuse(10.5)
    assert playback.lead(10.5) == 0.5
    playback.excuse(13.0)
    assert playback.lead(13.5) == -0.5
