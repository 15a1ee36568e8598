"""The codec's kernels as functions of tensors, beside those of launches.py."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .activations import snake
from .streams import depthwise_norm, join_tail, overlap_halves, turn_rows

_ELEMENTS = 1_024
_CHANNELS, _SAMPLES = 32, 32


def snake_beta(
    x: Tensor, alpha: Tensor, root: Tensor, *, added: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """y + (root · sin(alpha · y))² of y = x (B, T, C), of x + added or of x + bias; bias, alpha and root (C,)."""
    x = x.contiguous()
    out = torch.empty_like(x)
    snake[triton.cdiv(out.numel(), _ELEMENTS),](
        x, x if added is None else added.contiguous(), alpha if bias is None else bias, alpha, root, out, x.shape[-1],
        out.numel(), ADD=added is not None, BIASED=bias is not None, BLOCK=_ELEMENTS,
    )  # fmt: skip
    return out


def joined(
    x: Tensor, tail: Tensor, targets: Tensor, *, added: Tensor | None = None, wave: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """`Streams.join` of y = x or x + added (B, T, C), or of the activation of y: y itself, and (B, n+T, C).

    tail (S+1, n, C) is what went before, and takes the new end in rows targets (B,). wave: alpha and root (C,).
    """
    x = x.contiguous()
    rows, length, channels = x.shape
    keep = tail.shape[1]
    whole = x.new_empty(rows, keep + length, channels)
    total = x if added is None else torch.empty_like(x)
    alpha, root = wave or (x, x)
    join_tail[(rows, triton.cdiv(channels, _CHANNELS), 1 + triton.cdiv(length, _SAMPLES))](
        x, x if added is None else added.contiguous(), alpha, root, tail, targets, total, whole, length, channels,
        tail.stride(0), ADD=added is not None, WAVE=wave is not None, KEEP=keep,
        KEEP_PAD=triton.next_power_of_2(keep), TIME=_SAMPLES, BLOCK=_CHANNELS,
    )  # fmt: skip
    return total, whole


def overlapped(both: Tensor, tail: Tensor, targets: Tensor) -> Tensor:
    """Of both halves side by side, (B, T, 2W), the first and the second of the place before: (B, T, W).

    tail (S+1, 1, W): the last second half, read and, in rows targets (B,), replaced.
    """
    both = both.contiguous()
    rows, length, width = both.shape[0], both.shape[1], both.shape[2] // 2
    out = both.new_empty(rows, length, width)
    overlap_halves[(rows, triton.cdiv(width, _CHANNELS), triton.cdiv(length, _SAMPLES))](
        both, tail, targets, out, length, width, tail.stride(0), TIME=_SAMPLES, BLOCK=_CHANNELS
    )
    return out


def depthwise_normed(
    x: Tensor, weight: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor], tail: Tensor, targets: Tensor, eps: float
) -> Tensor:
    """Layer norm, with gain and shift (C,), of the causal convolution of each channel of x (B, T, C) by itself.

    weight (kernel, C), bias (C,); tail (S+1, kernel - 1, C) and targets (B,) as in `joined`.
    """
    x = x.contiguous()
    rows, length, channels = x.shape
    out = torch.empty_like(x)
    depthwise_norm[(rows,)](
        x, weight, bias, *norm, tail, targets, out, length, channels, tail.stride(0), eps,
        KERNEL=weight.shape[0], BLOCK=triton.next_power_of_2(channels),
    )  # fmt: skip
    return out


def turns(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, 1, K) of positions int64 (B,), by frequencies float32 (K/2,)."""
    rows, half = positions.shape[0], frequencies.shape[0]
    cos, sin = torch.empty(2, rows, 1, 2 * half, device=positions.device, dtype=dtype)
    turn_rows[(rows,)](positions, frequencies, cos, sin, HALF=half, PAD=triton.next_power_of_2(half), num_warps=1)
    return cos, sin
