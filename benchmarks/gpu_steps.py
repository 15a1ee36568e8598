"""Whole frame steps of a checkpoint on a card: without our kernels, with them, and the two beside each other.

In float32, where a choice flips only at a near tie, and once with kernels in bfloat16, as a server runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu_basics import Wrong
from tts_engine import Acceleration, EngineConfig, kernels
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.prompt import Prompt
from tts_engine.runner import Runner
from tts_engine.sampling_values import Sampling

ROWS, FRAMES = 8, 3
_CONFIG = EngineConfig(
    slots=ROWS, max_text_tokens=64, max_instruct_tokens=1, max_reference_text_tokens=1, segment_tokens=64, max_frames=64
)
# A sum in another order may move a choice that was a near tie, and all that follows it.
_MOST_FLIPPED = 1


class Compared:
    """Steps of the checkpoint in `folder`; what it says without kernels is remembered for the comparison."""

    def __init__(self, device: torch.device, folder: Path) -> None:
        self._device, self._folder = device, folder
        self._files: Checkpoint | None = None
        self._networks: Networks | None = None
        self._said: npt.NDArray[np.int64] | None = None

    def plain(self) -> str:
        """By torch's operations."""
        self._said = self._say("off", torch.float32)
        return f"{FRAMES} frames of {ROWS} rows"

    def by_kernels(self) -> str:
        """By our kernels: codes as without them. Raises Wrong for others."""
        said = self._say("on", torch.float32)
        if self._said is None:
            raise Wrong("there is nothing to compare with")
        flipped = int((said[0] != self._said[0]).any(1).sum())
        if flipped > _MOST_FLIPPED:
            raise Wrong(f"in the first frame {flipped} of {ROWS} rows say something else than without kernels")
        return f"{flipped} of {ROWS} rows differ in the first frame, {int((said != self._said).any(2).sum())} in all"

    def by_kernels_in_bfloat16(self) -> str:
        """The same as a server has them: other codes, for all is rounded, but all of them codes."""
        self._networks = None
        said = self._say("on", torch.bfloat16)
        return f"{len(np.unique(said))} different codes"

    def _say(self, word: str, dtype: torch.dtype) -> npt.NDArray[np.int64]:
        """Codes (frames, rows, 16). Raises Wrong when a code is none or all rows say the same."""
        Acceleration(word, "off").choose(self._device, dtype)
        try:
            with torch.inference_mode():
                made = self._frames(dtype)
        finally:
            kernels.choose(on=False)
        assert self._files is not None, "read with the networks"
        if made.min() < 0 or made.max() >= self._files.model.vocab:
            raise Wrong(f"codes from {made.min()} to {made.max()}")
        if (made == made[:, :1]).all():
            raise Wrong("all rows say the same")
        return made

    def _frames(self, dtype: torch.dtype) -> npt.NDArray[np.int64]:
        self._files = self._files or Checkpoint.read(self._folder)
        self._networks = self._networks or load_networks(self._files, self._device, dtype)
        model = self._files.model
        runner = Runner(self._networks, model, _CONFIG, self._device, dtype)
        prompt = Prompt(tuple(range(5, 25)), (model.ids.codec_pad,) * 20, 8, (7, 8, 9), True)
        for slot in range(ROWS):
            sampling = Sampling(0.9, 50, 1.0, 1.05, 0.9, 50, 1.0, seed=slot)
            runner.enter(slot, runner.prepare(prompt, None), sampling)
        flights = [runner.launch(ROWS, 20, ())]
        landed = []
        for number in range(1, FRAMES):
            flights.append(runner.launch(ROWS, 20 + number, ()))
            landed.append(flights.pop(0).land())
        landed.append(flights.pop().land())
        return np.stack([frame.codes for frame in landed])
