"""Our engine as a peer: without a server, its sound taken where the server would take it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.peer_worker import Job, Spoken
from tts_engine import Acceleration, Engine, EngineConfig, Outcome, Speak, SpokenSegment

BATCH = 8
DEADLINE_S = 1_200


class Listener:
    """A sink that counts frames and notes when the first and the end came."""

    def __init__(self) -> None:
        self.frames = 0
        self.first = self.last = 0.0
        self.outcome: Outcome | None = None
        self._ended = threading.Event()

    def segment(self, segment: SpokenSegment) -> None:
        """Nothing to note."""

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        """Count a frame."""
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.frames += 1

    def end(self, outcome: Outcome) -> None:
        """Let go whoever waits."""
        self.outcome = outcome
        self._ended.set()

    def wait(self) -> None:
        """Return when the utterance is over; raises RuntimeError when it failed or lasts too long."""
        if not self._ended.wait(DEADLINE_S) or self.outcome is None or self.outcome.error is not None:
            raise RuntimeError(f"an utterance did not come to its end: {self.outcome}")


class Ours:
    """A running engine with room for a batch."""

    def __init__(self, checkpoint: str, device: str, dtype: str) -> None:
        # Texts are spoken whole, as the official package does.
        config = EngineConfig(slots=BATCH, max_frames=256, segment_tokens=600, max_text_tokens=600)
        acceleration = Acceleration(kernels=os.environ.get("QWEN3_TTS_KERNELS", "auto"))
        self._engine = Engine.load(
            Path(checkpoint), config, voices=None, device=device, dtype=dtype, acceleration=acceleration
        )
        self._engine.start()
        speakers = self._engine.describe()["speakers"]
        assert isinstance(speakers, list)
        self._speaker = speakers[0]

    def speak(self, job: Job) -> Spoken:
        """Hand all texts to the engine at once."""
        listeners = [Listener() for _ in job.texts]
        start = time.perf_counter()
        for number, (text, listener) in enumerate(zip(job.texts, listeners, strict=True)):
            self._engine.submit(self._request(text, job.frames, job.seed + number), listener)
        for listener in listeners:
            listener.wait()
        seconds = max(listener.last for listener in listeners) - start
        return Spoken(seconds, [one.first - start for one in listeners], [one.frames for one in listeners])

    def close(self) -> None:
        """Stop the engine."""
        self._engine.shutdown()

    def _request(self, text: str, frames: int, seed: int) -> Speak:
        return Speak(
            text=text,
            voice=self._speaker,
            seed=seed,
            max_frames=frames,
            text_placement="prefill",
            trim_leading_silence=False,
        )


def load(checkpoint: str, device: str, dtype: str) -> Ours:
    """The engine with a checkpoint loaded."""
    return Ours(checkpoint, device, dtype)
