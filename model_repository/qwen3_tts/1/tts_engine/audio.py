"""Sound as numbers: 16-bit PCM out, recordings in, and the mel spectrogram a voice is recognised by.

Knows no networks and no files.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import SAMPLE_RATE
from .errors import InvalidRequest

PCM_SCALE = 32_767

Samples = npt.NDArray[np.float32]

MIN_REFERENCE_SECONDS = 1.0
MAX_REFERENCE_SECONDS = 30.0
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 192_000
SILENCE_PEAK = 1e-3
"""A recording that never gets louder (-60 dBFS) has no voice in it."""
LOUDEST_PEAK = 4.0
"""Full scale is 1. Far louder samples are integers taken for floats, or would overflow in the encoders."""
CLIPPED_SHARE = 1e-3
"""A recording with more samples than this at full scale sounds distorted, and so will its clone."""

_FFT, _HOP, _MELS = 1_024, 256, 128
_MEL_TOP = 12_000.0


def to_pcm16(samples: Tensor) -> Tensor:
    """Float samples in [-1, 1] as int16, rounded to the nearest step."""
    return (samples * PCM_SCALE).round().to(torch.int16)


def reference_samples(samples: Samples, sample_rate: int) -> Samples:
    """A recording, (N,) or (N, channels), as mono float32 (N',) at 24 kHz, checked to be fit for cloning.

    Raises InvalidRequest naming the value and the limit when it is too short, too long, silent or not finite.
    """
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise InvalidRequest(
            f"the reference's sample rate must be from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, got {sample_rate}"
        )
    seconds = samples.shape[0] / sample_rate
    if not MIN_REFERENCE_SECONDS <= seconds <= MAX_REFERENCE_SECONDS:
        raise InvalidRequest(
            f"the reference lasts {seconds:.2f} s; "
            f"it must last from {MIN_REFERENCE_SECONDS:g} to {MAX_REFERENCE_SECONDS:g} s"
        )
    mono = samples.mean(axis=1, dtype=np.float32) if samples.ndim > 1 else samples.astype(np.float32)
    if not np.isfinite(mono).all():
        raise InvalidRequest("the reference holds samples that are not finite numbers")
    peak = float(np.abs(mono).max())
    if peak < SILENCE_PEAK:
        raise InvalidRequest(f"the reference is silent: its peak is {peak:.2g}, the least is {SILENCE_PEAK:g}")
    if peak > LOUDEST_PEAK:
        raise InvalidRequest(f"the reference's peak is {peak:.2g}, the most is {LOUDEST_PEAK:g}; full scale is 1")
    return resample(mono, sample_rate, SAMPLE_RATE)


def clipped_share(samples: Samples) -> float:
    """The share of samples at full scale."""
    return float((np.abs(samples) >= 0.999).mean())


def resample(samples: Samples, source: int, target: int) -> Samples:
    """Mono samples (N,) at another rate, ⌈N·target/source⌉ of them (soxr, high quality)."""
    if source == target:
        return samples
    made = soxr.resample(samples, source, target, quality="HQ")
    length = math.ceil(len(samples) * (target / source))  # as librosa rounds: one more where the ratio is inexact
    return np.pad(made[:length], (0, max(0, length - len(made)))).astype(np.float32)


def mel_spectrogram(samples: Tensor) -> Tensor:
    """Log mel spectrogram (T, 128) of samples (N,) at 24 kHz, as the speaker encoder was trained on.

    1024-point periodic Hann windows every 256 samples, 0 to 12 kHz, Slaney scale and norm.
    """
    margin = (_FFT - _HOP) // 2
    padded = F.pad(samples[None], (margin, margin), "reflect")[0]
    window = torch.hann_window(_FFT, device=samples.device, dtype=samples.dtype)
    spectrum = torch.stft(padded, _FFT, _HOP, window=window, center=False, return_complex=True)
    magnitude = torch.sqrt(torch.view_as_real(spectrum).square().sum(-1) + 1e-9)
    bank = torch.from_numpy(_mel_bank()).to(samples)
    return torch.log((bank @ magnitude).clamp(min=1e-5)).T


@functools.cache
def _mel_bank() -> Samples:
    """Triangular filters (128, 513), each of unit area in hertz (M. Slaney, Auditory Toolbox, 1998)."""
    edges = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(_MEL_TOP), _MELS + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, _FFT // 2 + 1)
    slopes = (edges[:, None] - bins) / -np.diff(edges, append=np.inf)[:, None]
    rising, falling = slopes[:-2], (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    bank = np.maximum(0.0, np.minimum(rising, falling))
    return (bank * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


_LINEAR_HERTZ, _LINEAR_STEP, _LOG_STEP = 1_000.0, 200.0 / 3, math.log(6.4) / 27


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _LINEAR_HERTZ:
        return hertz / _LINEAR_STEP
    return _LINEAR_HERTZ / _LINEAR_STEP + math.log(hertz / _LINEAR_HERTZ) / _LOG_STEP


def _mel_to_hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    turn = _LINEAR_HERTZ / _LINEAR_STEP
    return np.where(mels < turn, mels * _LINEAR_STEP, _LINEAR_HERTZ * np.exp(_LOG_STEP * (mels - turn)))
