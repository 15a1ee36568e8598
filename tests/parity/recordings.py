"""The recordings both sides clone: made from numbers, written as float WAV files that either side opens by itself.

Something like a voice: a gliding tone with overtones, in syllables, over a little noise; two channels differ.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from tests.parity.cases import Recording

_OVERTONES = 12


def write_recordings(recordings: list[Recording], folder: Path) -> None:
    """Write each to folder/<name>.wav."""
    folder.mkdir()
    for number, recording in enumerate(recordings):
        soundfile.write(folder / recording.file, _sound(recording, number), recording.rate, subtype="FLOAT")


def _sound(recording: Recording, seed: int) -> npt.NDArray[np.float32]:
    """Samples (N, channels) in [-1, 1]."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(recording.seconds * recording.rate)) / recording.rate
    channels = [_channel(draw, time, recording.rate) for _ in range(recording.channels)]
    return np.stack(channels, axis=1).astype(np.float32)


def _channel(draw: np.random.Generator, time: npt.NDArray[np.float64], rate: int) -> npt.NDArray[np.float64]:
    pitch, glide, pace = draw.uniform(90, 260), draw.uniform(0.5, 2.0), draw.uniform(2.0, 5.0)
    phase = 2 * np.pi * pitch * (time + 0.02 * np.sin(2 * np.pi * glide * time))
    sound = np.zeros_like(time)
    for overtone in range(1, _OVERTONES + 1):
        if overtone * pitch * 1.3 < rate / 2:
            sound += draw.uniform(0.2, 1.0) / overtone * np.sin(overtone * phase + draw.uniform(0, 6))
    syllables = 0.1 + np.sin(np.pi * pace * time) ** 2
    noise = 0.01 * draw.standard_normal(len(time))
    return 0.3 * syllables * sound / np.abs(sound).max() + noise
