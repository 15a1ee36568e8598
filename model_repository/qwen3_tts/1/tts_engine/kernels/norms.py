"""Root-mean-square norm of rows, alone or of a sum that is kept. Statistics in float32."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def weighted_norm(value, gain, width, eps):
    """gain · norm(value) of a row of `width` numbers, zeros behind them; rounds to value's kind after each."""
    kind = value.dtype
    wide = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    return (gain.to(tl.float32) * (wide * scale).to(kind).to(tl.float32)).to(kind)


@triton.jit
def norm_rows(x, added, weight, total, normed, width, gains, eps, ADD: tl.constexpr, BLOCK: tl.constexpr):
    """normed = weight · norm(x), or total = x + added and normed = weight · norm(total); one program a row.

    weight (gains, width): row r has gain r % gains. All rows are dense. Rounds after the sum, after the norm and after
    the weight, as the operations it stands for do.
    """
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    value = tl.load(x + row + at, mask=inside, other=0.0)
    if ADD:
        more = tl.load(added + row + at, mask=inside, other=0.0)
        value = (value.to(tl.float32) + more.to(tl.float32)).to(value.dtype)
        tl.store(total + row + at, value, mask=inside)
    gain = tl.load(weight + (tl.program_id(0) % gains) * width + at, mask=inside, other=0.0)
    tl.store(normed + row + at, weighted_norm(value, gain, width, eps), mask=inside)
