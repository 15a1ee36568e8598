"""When things happen to a request, as its client is told: what counts as the model's time, what as its listener's."""

from typing import Any

import pytest

from frontend.connection import MAX_PIECE_BYTES
from frontend.messages_v2 import Speak, Wishes
from frontend.synthesis import Chunk
from frontend.text_feed import TextFeed
from tests.frontend.fakes import FRAME_BYTES
from tests.frontend.hand_moved import played

MODEL_S, LISTENER_S = 1_000.0, 50_000.0
FRAME = Chunk(bytes(FRAME_BYTES))
END = Chunk(b"", {"reason": "complete"})


def whole(voice: str | None = None, *, progress: bool = False) -> tuple[Speak, TextFeed]:
    feed = TextFeed("Hello.")
    feed.end()
    return Speak("u1", "Hello.", True, Wishes(voice=voice, progress=progress)), feed


def slowly(info: dict[str, Any]) -> list[tuple[float, Chunk]]:
    """Two frames and the last word, each long in coming."""
    return [(MODEL_S, FRAME), (MODEL_S, FRAME), (MODEL_S, Chunk(b"", info))]


def feed_of(*flushed: str) -> TextFeed:
    """Texts with a flush behind each, and then the end."""
    feed = TextFeed("")
    for text in flushed:
        feed.append(text)
        feed.flush()
    feed.end()
    return feed


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        ({}, 3 * MODEL_S),
        ({"timings": {"total_s": 900.0, "queue_s": 400.0}}, 500.0),
        ({"timings": {"total_s": 900.0}}, 900.0),
    ],
)
@pytest.mark.parametrize("voice", [None, "nobody"])
def test_of_a_whole_text_it_is_what_the_model_says_or_else_how_long_it_was_waited_for(
    info: dict[str, Any], seconds: float, voice: str | None
) -> None:
    """Without its time in the line, and a voice that nobody has is no time of the model's."""
    request = played(*whole(voice), slowly(info), listener_s=LISTENER_S).request
    assert request.generation_s == pytest.approx(seconds, abs=MODEL_S / 10)


@pytest.mark.parametrize("flushed", [("One.",), ("One.", "Two."), ("One.", "Two.", "Three.")])
def test_of_written_text_it_is_how_long_all_its_generations_were_waited_for(flushed: tuple[str, ...]) -> None:
    """What the model says of one would contain the time that its writer took."""
    speak = Speak("u1", "", False, Wishes())
    said = {"timings": {"total_s": 900.0, "queue_s": 400.0}}
    request = played(speak, feed_of(*flushed), slowly(said), listener_s=LISTENER_S).request
    assert request.generation_s == pytest.approx(3 * MODEL_S * len(flushed), abs=MODEL_S / 10)


def test_its_time_in_the_line_is_told_when_its_sound_begins() -> None:
    (start,) = played(*whole(), slowly({}), queued_s=5_000.0).of_type("audio_start")
    assert start["queue_ms"] == pytest.approx(5_000_000, rel=0.01)


def test_progress_is_told_once_a_second_at_most_and_only_of_what_has_begun() -> None:
    """The first second brings no sound, and a frame that comes within a second of the last word of it no word."""
    silence = Chunk(b"")
    chunks = [(MODEL_S, silence), (MODEL_S, FRAME), (0.0, FRAME), (0.0, FRAME), (MODEL_S, FRAME), (0.0, END)]
    shown = played(*whole(progress=True), chunks).of_type("progress")
    assert [event["audio_ms"] for event in shown] == [80, 320]
    assert [event["rtf"] for event in shown] == pytest.approx([2 * MODEL_S / 0.08, 3 * MODEL_S / 0.32], rel=0.01)


def test_each_generation_of_a_request_is_marked_where_it_begins_in_the_whole_sound() -> None:
    speak = Speak("u1", "", False, Wishes())
    marks = played(speak, feed_of("One.", "Two."), [(0.0, FRAME), (0.0, FRAME), (0.0, END)]).of_type("mark")
    assert [(mark["text"], mark["start_ms"], mark["sample_start"]) for mark in marks] == [
        ("One.", 0, 0),
        ("Two.", 160, 2 * 1920),
    ]


def test_much_sound_at_once_leaves_in_pieces_a_client_can_take() -> None:
    sound = Chunk(bytes(5 * MAX_PIECE_BYTES // 2 // FRAME_BYTES * FRAME_BYTES))
    pieces = played(*whole(), [(0.0, sound), (0.0, END)]).audio
    assert sum(map(len, pieces)) == len(sound.pcm)
    assert [len(piece) <= MAX_PIECE_BYTES for piece in pieces] == [True] * 3
