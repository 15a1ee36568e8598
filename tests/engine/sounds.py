"""Recordings to clone and a sink with a clock: what tests of voices and of timing share."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tests.engine.fakes import Listener
from tts_engine import SAMPLE_RATE


def hum(seconds: float, seed: int = 0, rate: int = SAMPLE_RATE) -> npt.NDArray[np.float32]:
    """A gliding tone in syllables, over a little noise: mono samples (N,); another seed is another voice."""
    draw = np.random.default_rng(seed)
    moment = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * draw.uniform(90, 250) * (moment + 0.02 * np.sin(draw.uniform(3, 9) * moment))
    tone = sum(draw.uniform(0.2, 1.0) / n * np.sin(n * phase) for n in range(1, 9))
    loudness = 0.1 + np.sin(draw.uniform(5, 15) * moment) ** 2
    return (0.1 * loudness * tone + 0.01 * draw.standard_normal(len(moment))).astype(np.float32)


class TimedListener(Listener):
    """Notes when each frame comes, in monotonic seconds and in seconds the engine thread has worked."""

    def __init__(self, on_frame: Callable[[int], None] = lambda count: None) -> None:
        self.times: list[float] = []
        self.worked: list[float] = []
        super().__init__(on_frame=on_frame)

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        self.times.append(time.monotonic())
        self.worked.append(time.thread_time())
        super().audio(pcm, codes)

    @property
    def gaps(self) -> npt.NDArray[np.float64]:
        """Seconds between its frames."""
        return np.diff(self.times)

    @property
    def work(self) -> npt.NDArray[np.float64]:
        """Seconds the engine thread worked between its frames: what they cost on a machine without other company."""
        return np.diff(self.worked)
