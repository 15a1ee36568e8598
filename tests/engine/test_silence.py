"""Silence at the start of a generation: up to four silent frames are left out, and the numbers tell."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.engine.conftest import SMALL
from tests.engine.fakes import Listener, ScriptedRunner
from tts_engine import Engine, Speak
from tts_engine.runner import Flight

EngineWith = Callable[..., Engine]


def spoken(engine: Engine, frames: int, **values: Any) -> Listener:
    """The scripted runner makes as many frames as the seed says."""
    listener = Listener()
    engine.submit(Speak(**{"text": "Hello", "seed": frames, **values}), listener)
    assert listener.outcome.reason == "complete"
    return listener


@pytest.mark.parametrize(("silent", "left_out"), [(0, 0), (1, 1), (4, 4), (5, 4), (8, 4)])
def test_up_to_four_silent_frames_at_the_start_are_left_out(
    engine_with: EngineWith, silent: int, left_out: int
) -> None:
    engine = engine_with(ScriptedRunner(silent=silent))
    trimmed, whole = spoken(engine, 8), spoken(engine, 8, trim_leading_silence=False)
    assert whole.outcome.info["samples"] == 8 * 1920
    assert whole.codes[:, 1].tolist() == list(range(8))
    assert trimmed.codes[:, 1].tolist() == list(range(left_out, 8))
    assert (trimmed.outcome.info["frames"], trimmed.outcome.info["samples"]) == (8, (8 - left_out) * 1920)
    assert engine.statistics.frames == 16


def test_an_utterance_of_silence_alone_ends_without_sound(engine_with: EngineWith) -> None:
    listener = spoken(engine_with(ScriptedRunner(silent=3)), 3)
    assert (listener.outcome.info["frames"], listener.outcome.info["samples"]) == (3, 0)
    assert listener.timings["first_audio_s"] is None


def test_each_segment_has_its_own_silence_left_out_and_its_place_told(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(silent=2)
    engine = engine_with(runner, replace(SMALL, segment_tokens=15))
    listener = spoken(engine, 5, text="One two three. Four five six.")
    info = listener.outcome.info
    assert info["segments"] == [
        {"index": 0, "text_start": 0, "text_end": 14, "sample_offset": 0},
        {"index": 1, "text_start": 15, "text_end": 29, "sample_offset": 3 * 1920},
    ]
    assert listener.codes[:, 1].tolist() == [2, 3, 4] * 2
    assert (info["frames"], info["samples"]) == (10, 6 * 1920)


def test_silence_within_speech_is_kept(engine_with: EngineWith) -> None:
    """Frames 5 and 6 of 7 silent ones come after the four that may go: from there on everything is sent."""
    engine, listener = engine_with(ScriptedRunner(silent=7)), Listener()
    engine.submit(Speak(text="Hello there", seed=12), listener)
    assert listener.outcome.reason == "complete"
    assert [bool(pcm.any()) for pcm in listener.pcm] == [False] * 3 + [True] * 5


def test_frames_that_were_left_out_count_towards_the_limit(engine_with: EngineWith) -> None:
    engine, listener = engine_with(ScriptedRunner(silent=4)), Listener()
    engine.submit(Speak(text="Hello there", seed=50, max_frames=6), listener)
    assert listener.outcome.reason == "max_length"
    assert len(listener.frames) == 2


class Levels(ScriptedRunner):
    """Frames whose first sample is as loud as the script says, by their number."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self._levels = levels

    def launch(self, *step: Any) -> Flight:
        flight = super().launch(*step)
        flight.pcm.zero_()
        for row, number in enumerate(flight.codes[:, 1].tolist()):
            flight.pcm[row, 0] = self._levels[min(number, len(self._levels) - 1)]
        return flight


@pytest.mark.parametrize(
    ("levels", "left_out"),
    [
        ((0, 3, -3, 900), 3),  # three of 32,768 are silence, however they were made
        ((4, 0, 0, 900), 0),
        ((0, -4, 0, 900), 1),  # and four are sound, behind which all is kept
    ],
)
def test_a_frame_is_silent_when_it_never_gets_louder_than_80_db_below_the_most(
    engine_with: EngineWith, levels: Sequence[int], left_out: int
) -> None:
    listener = spoken(engine_with(Levels(levels)), 6)
    assert listener.codes[:, 1].tolist() == list(range(left_out, 6))
