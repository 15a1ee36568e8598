"""A sound file from a stranger as a recording to clone: `python recording_check.py SOURCE TARGET`.

A process of its own with little memory and time, since what it decodes may be made to exhaust both. Writes TARGET as
mono 24 kHz 16-bit WAV without the silence around the speech, or prints what is wrong and exits with 1, with 3 where
the fault is not the recording's. It imports nothing of ours, so that it runs as a file wherever the package lies.
"""

import asyncio
import io
import os
import resource
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

SAMPLE_RATE = 24_000
MIN_SECONDS, MAX_SECONDS = 3.0, 30.0
MIN_SPEECH_SECONDS = 1.0
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_CHANNELS = 8
SILENCE_PEAK = 1e-3
KEPT_SILENCE_SECONDS = 0.1
MEMORY_BYTES = 2 * 1024**3
CPU_SECONDS = 10
WALL_SECONDS = 20.0
NOT_WRITTEN = 3

_WINDOWS_PER_SECOND = 100
_SILENCE_BELOW_LOUDEST = 0.01

Samples = npt.NDArray[np.float32]


class UnusableRecording(Exception):
    """The file is no recording that can be cloned; the message names value and limit."""


async def check_recording(source: Path, target: Path) -> None:
    """Makes `target` of `source` in a process of its own. Raises UnusableRecording; OSError where the disk fails."""
    command = [sys.executable, "-I", __file__, str(source), str(target)]
    # Each thread of a numerical library reserves memory, which on a machine with many cores is more than the limit.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        async with asyncio.timeout(WALL_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise UnusableRecording(f"the recording was not decoded within {WALL_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    words = said.decode(errors="replace").strip()
    if process.returncode == NOT_WRITTEN:
        raise OSError(words)
    if process.returncode != 0:
        raise UnusableRecording(words or "the recording could not be decoded with the memory and time it may take")


def prepared(source: Path) -> Samples:
    """The speech in a file, float32 (N,) at 24 kHz. Raises UnusableRecording."""
    samples, rate = _read(source)
    seconds = len(samples) / rate
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        length = f"{seconds:.2f} s" if seconds <= MAX_SECONDS else f"more than {MAX_SECONDS:g} s"
        raise UnusableRecording(f"the recording lasts {length}; it must last from {MIN_SECONDS:g} to {MAX_SECONDS:g} s")
    mono = samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise UnusableRecording("the recording holds samples that are not finite numbers")
    peak = float(np.abs(mono).max())
    if peak < SILENCE_PEAK:
        raise UnusableRecording(f"the recording is silent: its peak is {peak:.2g}, the least is {SILENCE_PEAK:g}")
    speech = _trimmed(mono, rate)
    if len(speech) < MIN_SPEECH_SECONDS * rate:
        found = f"{len(speech) / rate:.2f} s"
        raise UnusableRecording(f"the recording holds {found} of speech; it needs {MIN_SPEECH_SECONDS:g} s")
    made = speech if rate == SAMPLE_RATE else soxr.resample(speech, rate, SAMPLE_RATE, quality="HQ")
    return made[: int(MAX_SECONDS * SAMPLE_RATE)]


def _read(source: Path) -> tuple[Samples, int]:
    """float32 (N, channels) and the rate; decoding stops a second behind the longest that is taken."""
    try:
        with soundfile.SoundFile(source) as file:
            if not MIN_RATE <= file.samplerate <= MAX_RATE:
                limits = f"{MIN_RATE} to {MAX_RATE} Hz"
                raise UnusableRecording(f"the recording's sample rate is {file.samplerate} Hz; it must be {limits}")
            if file.channels > MAX_CHANNELS:
                raise UnusableRecording(f"the recording has {file.channels} channels; at most {MAX_CHANNELS} are mixed")
            blocks = file.blocks(file.samplerate, dtype="float32", always_2d=True)
            kept = [block for _, block in zip(range(int(MAX_SECONDS) + 1), blocks, strict=False)]
            return np.concatenate(kept) if kept else np.zeros((0, 1), np.float32), file.samplerate
    # soundfile raises TypeError for formats without a header, which do not say what they hold.
    except (OSError, TypeError, soundfile.LibsndfileError) as error:
        raise UnusableRecording(f"the recording cannot be read: {str(error).replace(str(source), 'it')}") from None


def _trimmed(samples: Samples, rate: int) -> Samples:
    """Mono samples without what stays 40 dB below the loudest hundredth of a second at either end."""
    window = rate // _WINDOWS_PER_SECOND
    padded = np.pad(samples, (0, -len(samples) % window)).reshape(-1, window)
    levels = np.sqrt(np.square(padded).mean(axis=1))
    loud = np.flatnonzero(levels >= _SILENCE_BELOW_LOUDEST * levels.max())
    kept = round(KEPT_SILENCE_SECONDS * rate)
    return samples[max(0, loud[0] * window - kept) : (loud[-1] + 1) * window + kept]


def main(source: str, target: str) -> int:
    """The exit status."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        speech = prepared(Path(source))
    except UnusableRecording as problem:
        print(problem)
        return 1
    except MemoryError:
        print(f"the recording cannot be decoded with {MEMORY_BYTES // 1024**2} MB of memory")
        return 1
    pcm = np.rint(np.clip(speech, -1.0, 1.0) * 32_767).astype(np.int16)
    made = io.BytesIO()
    soundfile.write(made, pcm, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    try:
        Path(target).write_bytes(made.getvalue())
    except OSError as problem:
        print(problem.strerror)
        return NOT_WRITTEN
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
