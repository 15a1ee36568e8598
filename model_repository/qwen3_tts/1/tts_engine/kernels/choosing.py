"""The choice of a code from its scores, in one launch a codebook: sampling.py's rules without its sort.

With a top_k of up to so many, a bound is found that at least k scores reach and not many more: the k-th highest of the
highest of as many groups. What reaches it is a short list, in which each id is compared with each: that gives how
many scores are higher, and how much of the mass comes before.

Otherwise, or where equals make the list too long, ids are ranked by a whole number that orders as (score, then the
lower id first) does. How much comes before a rank is a sum over all ids above it, so each bound, the k-th score, the
end of top-p and the place the random number falls on, is found by halving the range of ranks.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .norms import weighted_norm


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
def _from_all(scaled, ids, vocab, k, top_p, uniform, BITS: tl.constexpr):
    """The id chosen from scores (2^BITS,), of which those below vocab are real."""
    real = ids < vocab
    bits = scaled.to(tl.int32, bitcast=True)
    order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)  # whole numbers in the order of the floats
    rank = (order << BITS) + ((1 << BITS) - 1 - ids)
    best = tl.max(tl.where(real, rank, -(1 << 62)), axis=0)
    kept = real
    if (k > 0) & (k < vocab):
        kept = real & (order >= _kth_score(tl.where(real, order, best >> BITS), real, k))
    top = tl.max(tl.where(real, scaled, float("-inf")), axis=0)
    mass = tl.where(kept, tl.exp(scaled - top), 0.0)
    lowest = tl.min(tl.where(mass > 0.0, rank, best), axis=0)
    if top_p < 1.0:
        end = _lowest_with_at_most(rank, mass, lowest, best, top_p * tl.sum(mass, axis=0), False)
        mass = tl.where(rank >= end, mass, 0.0)
        lowest = tl.min(tl.where(mass > 0.0, rank, best), axis=0)
    chosen = _lowest_with_at_most(rank, mass, lowest, best, uniform * tl.sum(mass, axis=0), True)
    return ((1 << BITS) - 1 - (chosen & ((1 << BITS) - 1))).to(tl.int32)


@triton.jit
def _reached_bound(scaled, k, BITS: tl.constexpr, GROUPS: tl.constexpr):
    """A number that the k highest of scores (2^BITS,) reach, and few others; k up to GROUPS. Any groups would do."""
    heads = tl.max(tl.reshape(scaled, (GROUPS, (1 << BITS) // GROUPS)), axis=1)
    above = tl.sum((heads[None, :] > heads[:, None]).to(tl.int32), axis=1)
    return tl.min(tl.where(above < k, heads, float("inf")), axis=0)


@triton.jit
def _listed(entries, place, count):
    """The scores of a short list, -inf behind its end."""
    entry = tl.load(entries + place, mask=place < count, other=0)
    return tl.where(place < count, (entry >> 32).to(tl.int32).to(tl.float32, bitcast=True), float("-inf"))


@triton.jit
def _from_shortlist(entries, count, k, top_p, uniform, SHORT: tl.constexpr, PART: tl.constexpr):
    """The id chosen from `count` entries, each a score (the upper 32 bits) and its id, ids rising."""
    place = tl.arange(0, SHORT)
    score = _listed(entries, place, count)
    top = tl.max(score, axis=0)
    mass = tl.exp(score - top)
    before, higher = tl.zeros((SHORT,), tl.float32), tl.zeros((SHORT,), tl.int32)
    for start in tl.static_range(0, SHORT, PART):
        # A part of the list against all of it, so that what is compared stays in registers.
        other = start + tl.arange(0, PART)
        rival = _listed(entries, other, count)
        better = rival[None, :] > score[:, None]
        sooner = better | ((rival[None, :] == score[:, None]) & (other[None, :] < place[:, None]))
        before += tl.sum(tl.where(sooner, tl.exp(rival - top)[None, :], 0.0), axis=1)
        higher += tl.sum(better.to(tl.int32), axis=1)
    # Whatever comes before one of the best k is one of them too.
    mass = tl.where(higher < k, mass, 0.0)
    if top_p < 1.0:
        first = place == tl.min(tl.where(score == top, place, SHORT), axis=0)
        mass = tl.where((before < top_p * tl.sum(mass, axis=0)) | first, mass, 0.0)
    reached = (mass > 0.0) & (before <= uniform * tl.sum(mass, axis=0))
    lowest = tl.min(tl.where(reached, score, float("inf")), axis=0)
    last = tl.max(tl.where(reached & (score == lowest), place, 0), axis=0)
    return tl.load(entries + last).to(tl.int32)


@triton.jit
def _drawn(scaled, ids, vocab, k, top_p, uniform, entries, BITS: tl.constexpr, SHORT: tl.constexpr):
    """The id chosen from scores (2^BITS,), -inf from vocab on. entries int64 (SHORT,): room for a short list."""
    groups: tl.constexpr = min(SHORT, 1 << BITS)
    count = 0
    if (k > 0) & (k <= groups):
        listed = (scaled >= _reached_bound(scaled, k, BITS, groups)) & (scaled > float("-inf"))
        count = tl.sum(listed.to(tl.int32), axis=0)
        place = tl.cumsum(listed.to(tl.int32), axis=0) - 1
        entry = (scaled.to(tl.int32, bitcast=True).to(tl.int64) << 32) | ids
        tl.store(entries + place, entry, mask=listed & (place < SHORT))
        tl.debug_barrier()  # each lane reads what others have written
    if (count > 0) & (count <= SHORT):
        chosen = _from_shortlist(entries, count, k, top_p, uniform, SHORT, SHORT // 4)
    else:
        chosen = _from_all(scaled, ids, vocab, k, top_p, uniform, BITS)
    return chosen


@triton.jit
def _spoken(score, ids, row, vocab, penalties, seen, frames, reserved, end, least):
    """A talker's scores by the rules of sampling.py's `first_codes`."""
    penalty = tl.load(penalties + row)
    said = tl.load(seen + row * vocab + ids, mask=ids < vocab, other=0)
    score = tl.where(said, tl.where(score < 0.0, score * penalty, tl.div_rn(score, penalty)), score)
    early = tl.load(frames + row) < least
    silent = (ids >= vocab - reserved) & ((ids != end) | early)
    return tl.where(silent, float("-inf"), score)


@triton.jit
def choose_codes(
    scores, temperatures, top_ks, top_ps, uniforms, codes, entries, penalties, seen, frames, targets,
    table, gains, inputs, normed, vocab, uniform_step, code_step, reserved, end, least, last, input_step, eps,
    BITS: tl.constexpr, SHORT: tl.constexpr, SPOKEN: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr,
    NORMED: tl.constexpr,
):  # fmt: skip
    """codes int64 (B,) of scores (B, V), V up to 2^BITS; one program a row. uniforms and codes: *_step apart.

    entries int64 (B, SHORT): for its own use. SPOKEN: the talker's rules apply, and what is chosen is seen from now on
    by the rows `targets` (B,); the last `reserved` ids are no codes, `end` among them ends an utterance, not before
    `least` frames. WIDTH: with one, the code's row of table (last + 1, WIDTH), or the last of all, goes to inputs,
    input_step apart, and NORMED with its gains to normed (B, WIDTH).
    """
    row = tl.program_id(0).to(tl.int64)
    ids = tl.arange(0, 1 << BITS)
    score = tl.load(scores + row * vocab + ids, mask=ids < vocab, other=float("-inf")).to(tl.float32)
    if SPOKEN:
        score = _spoken(score, ids, row, vocab, penalties, seen, frames, reserved, end, least)
    temperature = tl.load(temperatures + row)
    scaled = tl.div_rn(score, tl.maximum(tl.where(temperature == 0.0, 1.0, temperature), 1e-6)) + 0.0
    best = tl.max(scaled, axis=0)
    chosen = tl.min(tl.where((scaled == best) & (ids < vocab), ids, (1 << BITS) - 1), axis=0)
    if temperature != 0.0:
        k, top_p, uniform = tl.load(top_ks + row), tl.load(top_ps + row), tl.load(uniforms + row * uniform_step)
        chosen = _drawn(scaled, ids, vocab, k, top_p, uniform, entries + row * SHORT, BITS, SHORT)
    tl.store(codes + row * code_step, chosen.to(tl.int64))
    if SPOKEN:
        tl.store(seen + tl.load(targets + row) * vocab + chosen, True)
    if WIDTH > 0:
        at = tl.arange(0, WIDTH_PAD)
        inside = at < WIDTH
        value = tl.load(table + tl.minimum(chosen, last).to(tl.int64) * WIDTH + at, mask=inside, other=0.0)
        tl.store(inputs + row * input_step + at, value, mask=inside)
        if NORMED:
            gain = tl.load(gains + at, mask=inside, other=0.0)
            tl.store(normed + row * WIDTH + at, weighted_norm(value, gain, WIDTH, eps), mask=inside)
