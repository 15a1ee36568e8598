"""Root-mean-square norm of rows, alone or of a sum that is kept. Statistics in float32."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def norm_rows(x, added, weight, total, normed, width, gains, eps, ADD: tl.constexpr, BLOCK: tl.constexpr):
    """normed = weight · norm(x), or total = x + added and normed = weight · norm(total); one program a row.

    weight (gains, width): row r has gain r % gains. All rows are dense. Rounds after the sum, after the norm and after
    the weight, as the operations it stands for do.
    """
    kind = normed.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    value = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(added + row + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(total + row + at, value.to(kind), mask=inside)
        value = value.to(kind).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, axis=0) / width + eps)
    rounded = (value * scale).to(kind).to(tl.float32)
    gain = tl.load(weight + (tl.program_id(0) % gains) * width + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row + at, (gain * rounded).to(kind), mask=inside)
