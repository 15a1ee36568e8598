"""Philox 4x32-10 (Salmon et al., SC 2011), the numbers of sampling.py, in one launch instead of a hundred."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def uniform_rows(seeds, frames, out, count, GROUPS: tl.constexpr, BLOCK: tl.constexpr):
    """out float32 (B, 4·GROUPS) in [0, 1), a function of (seed, frame, column); count = B·GROUPS.

    seeds, frames int64 (B,). Each lane makes the four numbers of one counter.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = lane < count
    row = lane // GROUPS
    seed = tl.load(seeds + row, mask=inside, other=0).to(tl.uint64, bitcast=True)
    k0, k1 = (seed & 0xFFFFFFFF).to(tl.uint64), seed >> 32
    c0 = (lane % GROUPS).to(tl.uint64)
    c1 = tl.load(frames + row, mask=inside, other=0).to(tl.uint64)
    c2, c3 = tl.zeros_like(c0), tl.zeros_like(c0)
    for _ in tl.static_range(10):
        # In 64 bits, which hold the product of two 32-bit words.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    place = out + lane * 4
    tl.store(place, (c0 >> 8).to(tl.float32) * (1.0 / 16777216.0), mask=inside)
    tl.store(place + 1, (c1 >> 8).to(tl.float32) * (1.0 / 16777216.0), mask=inside)
    tl.store(place + 2, (c2 >> 8).to(tl.float32) * (1.0 / 16777216.0), mask=inside)
    tl.store(place + 3, (c3 >> 8).to(tl.float32) * (1.0 / 16777216.0), mask=inside)
