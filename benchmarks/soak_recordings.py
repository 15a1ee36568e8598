"""Recordings of nobody, each different from all others, so that what is kept of voices turns over."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt

RATE = 24_000


def recording(drawn: random.Random, shortest_s: float, longest_s: float) -> npt.NDArray[np.float32]:
    """A trembling tone at RATE, from -1 to 1, of a length between the two."""
    time = np.arange(int(drawn.uniform(shortest_s, longest_s) * RATE)) / RATE
    pitch, tremble = drawn.uniform(90, 300), drawn.uniform(2, 6)
    tone = 0.4 * np.sin(2 * np.pi * pitch * time) * (1 + 0.4 * np.sin(2 * np.pi * tremble * time))
    return tone.astype(np.float32)
