"""The official qwen-tts package as a peer. Runs in that package's environment; it cannot stream."""

from __future__ import annotations

import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import import_shims

import_shims.install()

import torch  # noqa: E402
from qwen_tts import Qwen3TTSModel  # noqa: E402

from benchmarks.peer_worker import Job, Spoken  # noqa: E402

SAMPLES_PER_FRAME = 1_920


class Official:
    """The package's own model class, called as its README does."""

    def __init__(self, checkpoint: str, device: str, dtype: str) -> None:
        self._device = torch.device(device)
        self._tts = Qwen3TTSModel.from_pretrained(checkpoint, device_map=device, dtype=getattr(torch, dtype))
        self._speaker = self._tts.get_supported_speakers()[0]

    def speak(self, job: Job) -> Spoken:
        """Speak the texts in one call; the package makes one frame less than it is allowed tokens."""
        torch.manual_seed(job.seed)
        start = time.perf_counter()
        sounds, _ = self._tts.generate_custom_voice(
            job.texts, speaker=[self._speaker] * len(job.texts), max_new_tokens=job.frames + 1
        )
        seconds = time.perf_counter() - start  # the sound is on the host: nothing is left to wait for
        return Spoken(seconds, [seconds] * len(sounds), [len(sound) // SAMPLES_PER_FRAME for sound in sounds])

    def close(self) -> None:
        """Nothing runs."""


def load(checkpoint: str, device: str, dtype: str) -> Official:
    """The package with a checkpoint loaded."""
    return Official(checkpoint, device, dtype)
