"""The choice of a code from its scores, in one launch a codebook: sampling.py's `pick` without its sort.

Ids are ranked by a whole number that orders as (score, then the lower id first) does. How much comes before a rank is a
sum over all ids above it, so each bound, the k-th score, the end of top-p and the place the random number falls on, is
found by halving the range of ranks.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _lowest_with_at_most(rank, mass, low, high, limit, OR_EQUAL: tl.constexpr):
    """The lowest rank in low … high with less (or no more) than `limit` of the mass above it, else high."""
    while low < high:
        middle = low + (high - low) // 2
        above = tl.sum(tl.where(rank > middle, mass, 0.0), axis=0)
        enough = above <= limit if OR_EQUAL else above < limit
        low = tl.where(enough, low, middle + 1)
        high = tl.where(enough, middle, high)
    return low


@triton.jit
def _kth_score(order, real, k):
    """The k-th highest of those of `order` that are real: the highest number that k of them reach."""
    low, high = tl.min(order, axis=0), tl.max(order, axis=0)
    while low < high:
        middle = low + (high - low + 1) // 2
        reached = tl.sum(tl.where(real & (order >= middle), 1, 0), axis=0) >= k
        low = tl.where(reached, middle, low)
        high = tl.where(reached, high, middle - 1)
    return low


@triton.jit
def choose_codes(scores, temperatures, top_ks, top_ps, uniforms, codes, vocab, uniform_step, BITS: tl.constexpr):
    """codes int64 (B,) of float32 scores (B, V), V up to 2^BITS; one program a row. uniforms: uniform_step apart."""
    row = tl.program_id(0).to(tl.int64)
    ids = tl.arange(0, 1 << BITS)
    real = ids < vocab
    temperature = tl.load(temperatures + row)
    score = tl.load(scores + row * vocab + ids, mask=real, other=float("-inf"))
    scaled = score / tl.maximum(tl.where(temperature == 0.0, 1.0, temperature), 1e-6) + 0.0
    bits = scaled.to(tl.int32, bitcast=True)
    order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)  # whole numbers in the order of the floats
    rank = (order << BITS) + ((1 << BITS) - 1 - ids)
    best = tl.max(tl.where(real, rank, -(1 << 62)), axis=0)
    chosen = best
    if temperature != 0.0:
        k = tl.load(top_ks + row)
        kept = real
        if (k > 0) & (k < vocab):
            kept = real & (order >= _kth_score(tl.where(real, order, best >> BITS), real, k))
        top = tl.max(tl.where(real, scaled, float("-inf")), axis=0)
        mass = tl.where(kept, tl.exp(scaled - top), 0.0)
        lowest = tl.min(tl.where(mass > 0.0, rank, best), axis=0)
        top_p = tl.load(top_ps + row)
        if top_p < 1.0:
            end = _lowest_with_at_most(rank, mass, lowest, best, top_p * tl.sum(mass, axis=0), False)
            mass = tl.where(rank >= end, mass, 0.0)
            lowest = tl.min(tl.where(mass > 0.0, rank, best), axis=0)
        limit = tl.load(uniforms + row * uniform_step) * tl.sum(mass, axis=0)
        chosen = _lowest_with_at_most(rank, mass, lowest, best, limit, True)
    tl.store(codes + row, (1 << BITS) - 1 - (chosen & ((1 << BITS) - 1)))
