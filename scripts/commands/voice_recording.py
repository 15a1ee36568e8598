"""A sound file as a voice's recording: mono, 24 kHz, without the silence around the speech, and fit to be cloned.

What is fit is decided by the engine alone. Knows neither manifests nor voice folders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from commands import CommandFailed
from tts_engine import SAMPLE_RATE, InvalidRequest, audio

MAX_FILE_SECONDS = 120
"""Longer files are refused before they are read: one that long is no recording of a few sentences."""
MAX_CHANNELS = 32
KEPT_SILENCE_SECONDS = 0.1
QUIET_PEAK = 0.1
"""A recording that stays below this (-20 dBFS) was made too far away or too low, and its noise is cloned with it."""

_WINDOWS_PER_SECOND = 100
_SILENCE_BELOW_LOUDEST = 0.01


@dataclass(frozen=True, eq=False)
class Recording:
    """samples: float32 (N,), mono at 24 kHz. warnings: what a listener may not like about it."""

    samples: audio.Samples
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / SAMPLE_RATE


def read_sound_file(path: Path) -> Recording:
    """The speech in a file of any format that soundfile reads.

    Raises CommandFailed when it cannot be read or, once trimmed, cannot be cloned.
    """
    samples, rate = _read(path)
    # The mean of numbers that are not finite is not either; the engine refuses it below.
    with np.errstate(invalid="ignore", over="ignore"):
        speech = trim_silence(samples.mean(axis=1, dtype=np.float32), rate)
    try:
        ready = audio.reference_samples(speech, rate)
    except InvalidRequest as error:
        raise CommandFailed(f"{path}: without the silence around the speech, {error}") from error
    # Resampling may round up to one sample more than the longest that the engine will read back.
    ready = ready[: int(audio.MAX_REFERENCE_SECONDS * SAMPLE_RATE)]
    return Recording(ready, tuple(level_warnings(samples, float(np.abs(ready).max()))))


def trim_silence(samples: audio.Samples, rate: int) -> audio.Samples:
    """Mono samples without the silence at either end, but for a tenth of a second that is kept of it.

    Silence is what stays 40 dB below the loudest hundredth of a second. What is not finite is left for the engine.
    """
    window = max(1, rate // _WINDOWS_PER_SECOND)
    padded = np.pad(samples, (0, -len(samples) % window)).reshape(-1, window)
    levels = np.sqrt(np.square(padded).mean(axis=1))
    loud = np.flatnonzero(levels >= _SILENCE_BELOW_LOUDEST * levels.max(initial=0.0))
    if not len(loud) or not np.isfinite(levels).all():
        return samples
    kept = round(KEPT_SILENCE_SECONDS * rate)
    return samples[max(0, loud[0] * window - kept) : (loud[-1] + 1) * window + kept]


def level_warnings(samples: audio.Samples, peak: float) -> list[str]:
    """What is wrong with how loud a recording is. samples: as recorded. peak: of what will be cloned."""
    warnings = []
    share = audio.clipped_share(samples)
    if share > audio.CLIPPED_SHARE:
        warnings.append(f"clipped: {100 * share:.2f} % of its samples are at full scale")
    if peak < QUIET_PEAK:
        limit = 20 * math.log10(QUIET_PEAK)
        warnings.append(f"quiet: it peaks at {20 * math.log10(peak):.0f} dBFS; {limit:.0f} dBFS or more is better")
    return warnings


def write_recording(path: Path, samples: audio.Samples) -> None:
    """Write samples, float32 (N,) at 24 kHz, as 16-bit PCM; what exceeds full scale is held there.

    Raises CommandFailed.
    """
    pcm = audio.to_pcm16(torch.from_numpy(np.clip(samples, -1.0, 1.0))).numpy()
    try:
        soundfile.write(path, pcm, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    except (OSError, soundfile.LibsndfileError) as error:
        raise CommandFailed(f"cannot write {path}: {error}") from error


def _read(path: Path) -> tuple[audio.Samples, int]:
    """All samples of a file, float32 (N, channels), and its rate."""
    if not path.is_file():
        raise CommandFailed(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            seconds = file.frames / file.samplerate
            if seconds > MAX_FILE_SECONDS:
                raise CommandFailed(f"{path} lasts {seconds:.0f} s; at most {MAX_FILE_SECONDS} s are read")
            if file.channels > MAX_CHANNELS:
                raise CommandFailed(f"{path} has {file.channels} channels; at most {MAX_CHANNELS} are mixed")
            return file.read(dtype="float32", always_2d=True), file.samplerate
    # soundfile raises TypeError for formats without a header, which do not say what they hold.
    except (OSError, soundfile.LibsndfileError, TypeError) as error:
        raise CommandFailed(f"cannot read {path}: {error}") from error
