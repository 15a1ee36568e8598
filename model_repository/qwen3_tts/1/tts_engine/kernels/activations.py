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
def snake(x, alpha, root, out, channels, count, BLOCK: tl.constexpr):
    """out = x + (root · sin(alpha · x))² of x (B, T, C), dense; alpha and root (C,). Computed in float32."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    channel = at % channels
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    wave = tl.sin(value * tl.load(alpha + channel, mask=inside, other=0.0).to(tl.float32))
    wave = wave * tl.load(root + channel, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (value + wave * wave).to(out.dtype.element_ty), mask=inside)
