"""Element-wise functions in one pass: the gate of the feed-forward, and the codec's periodic activation."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gate_product(gate, up, out, count, BLOCK: tl.constexpr):
    """out = silu(gate) · up of `count` elements; silu in float32, rounded before the product."""
    kind = out.dtype.element_ty
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    opened = (value / (1.0 + tl.exp(-value))).to(kind).to(tl.float32)
    factor = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (opened * factor).to(kind), mask=inside)


@triton.jit
def snake(x, alpha, scale, out, channels, length, count, BLOCK: tl.constexpr):
    """out = x + scale · sin²(alpha · x) of x (B, C, T), dense; alpha and scale (C,). Computed in float32."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    channel = (at // length) % channels
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    wave = tl.sin(value * tl.load(alpha + channel, mask=inside, other=0.0).to(tl.float32))
    height = tl.load(scale + channel, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (value + height * (wave * wave)).to(out.dtype.element_ty), mask=inside)
