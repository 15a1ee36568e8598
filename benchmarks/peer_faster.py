"""faster-qwen3-tts as a peer: CUDA graphs around the official networks, one utterance at a time, in chunks.

Runs in that package's environment and on a GPU alone.
"""

from __future__ import annotations

import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import import_shims

import_shims.install()

import torch  # noqa: E402
from faster_qwen3_tts import FasterQwen3TTS  # noqa: E402

from benchmarks.peer_worker import Job, Spoken  # noqa: E402

SAMPLES_PER_FRAME = 1_920
# What its README measures the first audio with.
CHUNK_FRAMES = 8


class Faster:
    """The package's own model class, called as its README does."""

    def __init__(self, checkpoint: str, device: str, dtype: str) -> None:
        self._tts = FasterQwen3TTS.from_pretrained(checkpoint, device=device, dtype=dtype, local_files_only=True)
        self._speaker = self._tts.model.get_supported_speakers()[0]

    def speak(self, job: Job) -> Spoken:
        """Speak one text. Raises ValueError for more: the package has no batch."""
        if len(job.texts) != 1:
            raise ValueError(f"faster-qwen3-tts speaks one text at a time, got {len(job.texts)}")
        torch.manual_seed(job.seed)
        samples, first, start = 0, None, time.perf_counter()
        chunks = self._tts.generate_custom_voice_streaming(
            job.texts[0], self._speaker, "Auto", max_new_tokens=job.frames, chunk_size=CHUNK_FRAMES
        )
        for sound, _, _ in chunks:
            first = first or time.perf_counter() - start
            samples += len(sound)
        seconds = time.perf_counter() - start
        return Spoken(seconds, [first or seconds], [round(samples / SAMPLES_PER_FRAME)])

    def close(self) -> None:
        """Nothing runs."""


def load(checkpoint: str, device: str, dtype: str) -> Faster:
    """The package with a checkpoint loaded."""
    return Faster(checkpoint, device, dtype)
