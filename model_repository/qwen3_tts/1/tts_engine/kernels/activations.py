"""Element-wise functions in one pass: the gate of the feed-forward, and the codec's periodic activation."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gate_product(both, out, width, count, BLOCK: tl.constexpr):
    """out (R, width) = silu(gate) · up of both (R, 2·width), gate before up; count = R · width.

    silu in float32, rounded before the product.
    """
    kind = out.dtype.element_ty
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    source = at + (at // width) * width
    value = tl.load(both + source, mask=inside, other=0.0).to(tl.float32)
    opened = (value / (1.0 + tl.exp(-value))).to(kind).to(tl.float32)
    factor = tl.load(both + source + width, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (opened * factor).to(kind), mask=inside)


@triton.jit
def wave_of(value, alpha, root):
    """value + (root · sin(alpha · value))² in float32."""
    wave = tl.sin(value * alpha) * root
    return value + wave * wave


@triton.jit
def snake(
    x, added, bias, alpha, root, out, channels, count, ADD: tl.constexpr, BIASED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out = y + (root · sin(alpha · y))² of y = x, or x + added, (B, T, C) each and dense, or x + bias; bias, alpha and
    root (C,). Computed in float32."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    channel = at % channels
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(added + at, mask=inside, other=0.0).to(tl.float32)
    if BIASED:
        value += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    pitch = tl.load(alpha + channel, mask=inside, other=0.0).to(tl.float32)
    size = tl.load(root + channel, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, wave_of(value, pitch, size).to(out.dtype.element_ty), mask=inside)
