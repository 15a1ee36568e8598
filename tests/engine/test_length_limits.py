"""How long a generation and an utterance may get before they are ended."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.engine.conftest import SMALL
from tests.engine.fakes import Listener, ScriptedRunner
from tts_engine import Engine, EngineConfig, Speak

EngineWith = Callable[..., Engine]
ENDLESS = 10**6


def spoken(engine: Engine, tokens: int, frames: int = ENDLESS, most: int | None = None) -> Listener:
    """A text of so many tokens, of which the scripted runner would make so many frames."""
    listener = Listener()
    engine.submit(Speak(text="x" * tokens, seed=frames, max_frames=most), listener)
    assert listener.outcome.reason == "max_length"
    return listener


@pytest.mark.parametrize(("tokens", "frames"), [(1, 192), (16, 192), (17, 204), (74, 888), (75, 900), (76, 900)])
def test_a_generation_that_does_not_end_is_ended(engine_with: EngineWith, tokens: int, frames: int) -> None:
    engine = engine_with(ScriptedRunner(), replace(SMALL, max_text_tokens=200, max_frames=900))
    assert len(spoken(engine, tokens).codes) == frames
    assert len(spoken(engine, tokens, most=100).codes) == 100


def test_the_configured_longest_generation_is_kept(engine_with: EngineWith) -> None:
    assert len(spoken(engine_with(ScriptedRunner(), EngineConfig(slots=2, max_frames=40)), 5).codes) == 40


def test_the_configured_longest_utterance_is_kept(engine_with: EngineWith) -> None:
    engine = engine_with(ScriptedRunner(), EngineConfig(slots=2, max_frames=40, max_total_frames=30))
    assert len(spoken(engine, 5).codes) == 30


def test_an_utterance_that_ends_by_itself_at_its_cap_is_not_longer_than_it(engine_with: EngineWith) -> None:
    assert len(spoken(engine_with(ScriptedRunner()), 5, frames=4, most=4).codes) == 4
