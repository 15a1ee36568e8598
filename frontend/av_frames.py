"""Speech as PyAV's frames, for its encoders and filters."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from frontend.synthesis import SAMPLE_RATE


def mono_frame(samples: npt.NDArray[np.int16], begun: int) -> AudioFrame:
    """samples (N,) at 24 kHz as one frame; begun: how many samples came before it."""
    frame = AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    frame.time_base = Fraction(1, SAMPLE_RATE)
    frame.pts = begun
    return frame
