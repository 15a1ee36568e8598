"""Time from handing a request to the engine until its first frame of sound leaves it, alone and in a burst."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.machine import REPOSITORY
from tts_engine import Acceleration, Engine, EngineConfig, Outcome, Speak, SpokenSegment

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness."
DEADLINE_S = 600


class FirstFrame:
    """A sink that notes when its first frame came, and when all is over."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.outcome: Outcome | None = None
        self._ended = threading.Event()

    def segment(self, segment: SpokenSegment) -> None:
        """Nothing to note."""

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        """Note the first frame."""
        self.first = self.first or time.perf_counter()

    def end(self, outcome: Outcome) -> None:
        """Let go whoever waits."""
        self.outcome = outcome
        self._ended.set()

    def wait(self) -> float:
        """When the first frame came, once the utterance is over; raises RuntimeError when it failed."""
        if not self._ended.wait(DEADLINE_S) or self.first is None:
            raise RuntimeError(f"an utterance has made no sound: {self.outcome}")
        return self.first


class FirstFrames:
    """A running engine with `slots` slots."""

    def __init__(self, checkpoint: Path, slots: int, device: str, dtype: str, acceleration: Acceleration) -> None:
        config, voices = EngineConfig(slots=slots, max_frames=256, max_text_tokens=256), REPOSITORY / "voices"
        self._engine = Engine.load(checkpoint, config, voices, device=device, dtype=dtype, acceleration=acceleration)
        self._engine.start()
        described = self._engine.describe()
        speakers = described["speakers"]
        assert isinstance(speakers, list)
        self._voice = speakers[0] if speakers else None
        self._instruct = "A calm voice." if described["type"] == "voice_design" else None

    def close(self) -> None:
        """Stop the engine."""
        self._engine.shutdown()

    def burst(self, count: int) -> list[float]:
        """Seconds to the first frame of each of `count` requests handed over at once, in order of arrival."""
        sinks, submitted = [FirstFrame() for _ in range(count)], []
        for number, sink in enumerate(sinks):
            submitted.append(time.perf_counter())
            self._engine.submit(self._request(number), sink)
        return sorted(sink.wait() - start for sink, start in zip(sinks, submitted, strict=True))

    def _request(self, seed: int) -> Speak:
        return Speak(
            text=TEXT,
            voice=self._voice,
            instruct=self._instruct,
            seed=seed,
            max_frames=1,
            trim_leading_silence=False,
        )
