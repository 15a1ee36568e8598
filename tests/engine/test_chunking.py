"""Chunking: nobody waits for a frame he needs, whoever has much ahead gets it in few responses, none is lost."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tts_engine import SAMPLE_RATE, SAMPLES_PER_FRAME
from tts_engine.chunking import LARGEST_CHUNK, RESERVE_SECONDS, Chunks

FRAME_S = SAMPLES_PER_FRAME / SAMPLE_RATE
TICK_S = 0.025


def frame(number: int) -> np.ndarray:
    return np.full(SAMPLES_PER_FRAME, number, dtype=np.int16)


def delivered(made_at: list[float]) -> list[tuple[float, list[int]]]:
    """When which frames go, if it is asked after each frame and every 25 ms, as delivery does."""
    chunks, sent = Chunks(), []
    moments = sorted({*made_at, *np.arange(0.0, made_at[-1] + 60.0, TICK_S).tolist()})
    number = 0
    for now in moments:
        while number < len(made_at) and made_at[number] <= now:
            chunks.add(frame(number))
            number += 1
        if chunks.due(now):
            sent.append((now, chunks.take(now)[::SAMPLES_PER_FRAME].tolist()))
    return sent


def steady(pace: float, frames: int) -> list[float]:
    """Frames made so many times as fast as they are heard."""
    return [1.0 + number * FRAME_S / pace for number in range(frames)]


gaps = st.lists(st.floats(0.0, 0.5), min_size=1, max_size=60)


@given(gaps)
def test_every_frame_goes_once_and_in_order(gaps: list[float]) -> None:
    sent = delivered(np.cumsum(gaps).tolist())
    assert [number for _, numbers in sent for number in numbers] == list(range(len(gaps)))


@given(gaps)
def test_no_frame_is_kept_back_that_the_listener_needs(gaps: list[float]) -> None:
    made_at = np.cumsum(gaps).tolist()
    sent = delivered(made_at)
    ends = sent[0][0]  # until when a player has sound that begins with the first and goes on after each gap
    for now, numbers in sent:
        needed = ends - RESERVE_SECONDS + TICK_S
        assert now <= max(needed, made_at[numbers[0]]) + 1e-6
        ends = max(ends, now) + len(numbers) * FRAME_S


def test_the_first_frame_goes_at_once_and_chunks_grow() -> None:
    sizes = [len(numbers) for _, numbers in delivered(steady(20.0, 120))]
    assert sizes[0] == 1
    assert {1, 2, 4, LARGEST_CHUNK} <= set(sizes)
    assert sizes[:-1] == sorted(sizes[:-1]), "a listener who gets further ahead never gets smaller chunks"
    assert max(sizes) == LARGEST_CHUNK


def test_frames_made_no_faster_than_they_are_heard_go_one_by_one() -> None:
    assert {len(numbers) for _, numbers in delivered(steady(1.0, 60))} == {1}


def test_sound_that_is_far_ahead_takes_few_responses() -> None:
    assert len(delivered(steady(10.0, 240))) <= 240 / 5
