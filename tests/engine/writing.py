"""Writers of live text for tests: one text, cut anyhow, its pieces given when the test says so."""

import random
from dataclasses import replace

from tests.engine.fakes import Listener
from tts_engine import Engine, EngineConfig, Speak

CONFIG = EngineConfig(slots=8, max_waiting=32, max_frames=220, segment_tokens=500, text_idle_seconds=5.0)

SENTENCES = (
    "Hello, it's 5.30 on a nice day!",
    "你好，世界。今天好！去。",
    "Größe: 3 m – cafe\u0301 😀.",
    "한 \u1112\u1161\u11ab, мир… か\u3099。",
    "two\n\nlines   and\ttabs \u00a0 x",
)


def cuts_of(text: str, draw: random.Random) -> list[str]:
    cuts = sorted(draw.sample(range(1, len(text)), draw.randint(1, min(12, len(text) - 1))))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


class Writer:
    """Writes one text in pieces: the first with the request, the others when told."""

    def __init__(self, engine: Engine, name: str, speak: Speak, pieces: list[str]) -> None:
        self._engine, self._name = engine, name
        self.listener = Listener()
        first, *self._pieces = pieces
        engine.submit(replace(speak, text=first, utterance=name, text_complete=False), self.listener)

    def write_all(self) -> None:
        """Append the rest, piece by piece; the last completes the text."""
        while self._pieces:
            piece = self._pieces.pop(0)
            assert self._engine.append(self._name, piece, complete=not self._pieces)
