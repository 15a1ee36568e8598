"""Random tensors for the cases of kernels, and how far two tensors are apart."""

import torch
from torch import Tensor


def off(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    ours, theirs = ours.double(), theirs.double()
    assert torch.isfinite(ours).all()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype)
