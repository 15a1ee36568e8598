"""Sound as numbers: float samples in [-1, 1] and 16-bit PCM."""

from __future__ import annotations

import torch
from torch import Tensor

PCM_SCALE = 32_767


def to_pcm16(samples: Tensor) -> Tensor:
    """Float samples in [-1, 1] as int16, rounded to the nearest step."""
    return (samples * PCM_SCALE).round().to(torch.int16)
