"""Attention of a few new tokens over cached keys, in one launch: heads are normed, rotated and stored, and what was
stored before is read no further than the row's own position.

Row r below is token r % TOKENS of slot r // TOKENS, TOKENS being 1 in a step. Its position is positions[slot] +
r % TOKENS when STEPPED, else start + r % TOKENS. A layer's keys and values are (S, G, T, K), the last two dense. *_PAD
is the next power of two, where a number is none.

No program reads what another one stores: each takes the new keys it looks at from the product they come from.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _look(query, key, value, seen, peak, mass, total):
    """A softmax-weighted sum that has come to (peak, mass, total), gone on with a block of keys and values."""
    score = tl.sum(query[:, None, :] * key[None, :, :], axis=2)
    score = tl.where(seen[None, :], score, float("-inf"))
    top = tl.maximum(peak, tl.max(score, axis=1))
    weight, fade = tl.exp(score - top[:, None]), tl.exp(peak - top)
    mass = mass * fade + tl.sum(weight, axis=1)
    total = total * fade[:, None] + tl.sum(weight[:, :, None] * value[None, :, :], axis=1)
    return top, mass, total


@triton.jit
def _gained(head, scale, norm, at, inside):
    """A head times its norm's scale, then times the gain; rounds after each."""
    kind = norm.dtype.element_ty
    gain = tl.load(norm + at, mask=inside, other=0.0).to(tl.float32)
    return (gain * (head * scale).to(kind).to(tl.float32)).to(kind).to(tl.float32)


@triton.jit
def _turned(
    source, first, count, norm, cos, sin, eps,
    COUNT_PAD: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    """Heads first … first+count-1 of a row of dense heads, normed and rotated, (COUNT_PAD, WIDTH_PAD); rounds after
    each operation it stands for. cos, sin (K,): the row's angles."""
    kind = source.dtype.element_ty
    member, at = tl.arange(0, COUNT_PAD), tl.arange(0, WIDTH_PAD)
    whole, inside = at < WIDTH, (member < count)[:, None] & (at < WIDTH)[None, :]
    # A number's partner lies half a head further, or before.
    across = (at + WIDTH // 2) % WIDTH
    row = source + (first + member)[:, None] * WIDTH
    head = tl.load(row + at[None, :], mask=inside, other=0.0).to(tl.float32)
    partner = tl.load(row + across[None, :], mask=inside, other=0.0).to(tl.float32)
    if NORMED:
        scale = tl.rsqrt(tl.sum(head * head, axis=1) / WIDTH + eps)[:, None]
        head = _gained(head, scale, norm, at[None, :], whole[None, :])
        partner = _gained(partner, scale, norm, across[None, :], whole[None, :])
    turn = tl.load(sin + at, mask=whole, other=0.0).to(tl.float32)
    turn = tl.where(at < WIDTH // 2, -turn, turn)
    stay = tl.load(cos + at, mask=whole, other=0.0).to(tl.float32)
    rotated = (head * stay[None, :]).to(kind).to(tl.float32) + (partner * turn[None, :]).to(kind).to(tl.float32)
    return rotated.to(kind)


@triton.jit
def _look_at_new(
    query, heads, norm, cos, sin, token, row_step, turn_step, shared, keys, values, eps, peak, mass, total,
    TOKENS: tl.constexpr, KEY: tl.constexpr, VALUE: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr,
    NORMED: tl.constexpr,
):  # fmt: skip
    """A look at the slot's new tokens up to this one, whose key and value are stored at keys and values on the way.

    heads, cos, sin: of the slot's first new token, those of the next are a step further. KEY, VALUE: the first head
    that is one.
    """
    at = tl.arange(0, WIDTH_PAD)
    whole = (at < WIDTH)[None, :]
    for other in tl.static_range(TOKENS):
        if other <= token:
            row, turn = heads + other * row_step, other * turn_step
            key = _turned(row, KEY + shared, 1, norm, cos + turn, sin + turn, eps, 1, WIDTH, WIDTH_PAD, NORMED)
            value = tl.load(row + (VALUE + shared) * WIDTH + at[None, :], mask=whole, other=0.0)
            if other == token:
                tl.store(keys + at[None, :], key, mask=whole)
                tl.store(values + at[None, :], value, mask=whole)
            seen = tl.full((1,), 1, tl.int1)
            peak, mass, total = _look(query, key.to(tl.float32), value.to(tl.float32), seen, peak, mass, total)
    return peak, mass, total


@triton.jit
def _look_at_stored(
    query, keys, values, known, split, place, peak, mass, total,
    WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A look at a split's share of the first `known` places stored, but for the one that is being written."""
    at = tl.arange(0, WIDTH_PAD)
    share = tl.cdiv(tl.cdiv(known, SPLITS), BLOCK) * BLOCK
    begin, end = split * share, tl.minimum(split * share + share, known)
    for first in tl.range(begin, end, BLOCK, num_stages=STAGES):
        time = first + tl.arange(0, BLOCK)
        seen = (time < end) & (time != place)
        cells = time[:, None] * WIDTH + at[None, :]
        stored = seen[:, None] & (at < WIDTH)[None, :]
        key = tl.load(keys + cells, mask=stored, other=0.0).to(tl.float32)
        value = tl.load(values + cells, mask=stored, other=0.0).to(tl.float32)
        peak, mass, total = _look(query, key, value, seen, peak, mass, total)
    return peak, mass, total


@triton.jit
def _leave(
    out, sums, peaks, masses, head, split, peak, mass, total,
    GROUP: tl.constexpr, GROUP_PAD: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Write what heads head … head+GROUP-1 see, or what one split of them has come to."""
    member, at = tl.arange(0, GROUP_PAD), tl.arange(0, WIDTH_PAD)
    inside = (member < GROUP)[:, None] & (at < WIDTH)[None, :]
    if SPLITS == 1:
        answer = (total / mass[:, None]).to(out.dtype.element_ty)
        tl.store(out + (head + member)[:, None] * WIDTH + at[None, :], answer, mask=inside)
    else:
        part = (head + member) * SPLITS + split
        tl.store(sums + part[:, None] * WIDTH + at[None, :], total, mask=inside)
        tl.store(peaks + part, peak, mask=member < GROUP)
        tl.store(masses + part, mass, mask=member < GROUP)


@triton.jit(do_not_specialize=["start"])
def attend_cached(
    heads, query_norm, key_norm, cos, sin, positions, start, keys, values, out, sums, peaks, masses,
    row_step, turn_slot, turn_step, slot_step, head_step, scale, eps,
    TOKENS: tl.constexpr, SHARED: tl.constexpr, GROUP: tl.constexpr, GROUP_PAD: tl.constexpr,
    WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, RING: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
    STEPPED: tl.constexpr, NORMED: tl.constexpr, TABLE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """out (B·T, H, K): what each query sees of positions up to its own. One program a row, group of heads and split.

    heads: rows of dense heads, row_step apart: H of queries, G of keys, G of values. cos, sin: angles, turn_slot apart
    for slots and turn_step for tokens or, with a TABLE, for positions. RING: of so many places a position takes that of
    the one it pushes out, all others are seen; 0: each has its own. What was stored is dealt evenly to SPLITS programs:
    more than one leave unscaled sums float32 (B·T, H, SPLITS, K), peaks and masses (B·T, H, SPLITS) to `join_splits`.
    """
    row, shared, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    slot, token = row // TOKENS, row % TOKENS
    known = tl.cast(tl.load(positions + slot) if STEPPED else start, tl.int64)
    turn = slot * turn_slot + (known * turn_step if TABLE else 0)
    cos, sin, own = cos + turn, sin + turn, token * turn_step
    query = _turned(
        heads + row * row_step, shared * GROUP, GROUP, query_norm, cos + own, sin + own, eps, GROUP_PAD, WIDTH,
        WIDTH_PAD, NORMED,
    ).to(tl.float32) * scale  # fmt: skip
    place = known % RING if RING > 0 else known + token
    known = tl.minimum(known, RING) if RING > 0 else known
    base = slot * slot_step + shared * head_step
    keys, values = keys + base, values + base
    peak = tl.full((GROUP_PAD,), float("-inf"), tl.float32)
    mass, total = tl.zeros((GROUP_PAD,), tl.float32), tl.zeros((GROUP_PAD, WIDTH_PAD), tl.float32)
    if split == 0:
        peak, mass, total = _look_at_new(
            query, heads + slot * TOKENS * row_step, key_norm, cos, sin, token, row_step, turn_step,
            shared, keys + place * WIDTH, values + place * WIDTH, eps, peak, mass, total,
            TOKENS, SHARED * GROUP, SHARED * GROUP + SHARED, WIDTH, WIDTH_PAD, NORMED,
        )  # fmt: skip
    peak, mass, total = _look_at_stored(
        query, keys, values, known, split, place, peak, mass, total, WIDTH, WIDTH_PAD, BLOCK, SPLITS, STAGES
    )
    head = row * (SHARED * GROUP) + shared * GROUP
    _leave(out, sums, peaks, masses, head, split, peak, mass, total, GROUP, GROUP_PAD, WIDTH, WIDTH_PAD, SPLITS)


@triton.jit
def join_splits(
    sums, peaks, masses, out, WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, SPLITS: tl.constexpr
):  # fmt: skip
    """out (B·T, H, K) of what the splits of `attend_cached` left; one program a row and head. An empty split has
    the peak -inf and so no weight; the first is never empty."""
    head = tl.program_id(0).to(tl.int64)
    split, at = tl.arange(0, SPLITS), tl.arange(0, WIDTH_PAD)
    peak = tl.load(peaks + head * SPLITS + split)
    weight = tl.exp(peak - tl.max(peak, axis=0))
    mass = tl.sum(weight * tl.load(masses + head * SPLITS + split), axis=0)
    cells = (head * SPLITS + split)[:, None] * WIDTH + at[None, :]
    part = tl.load(sums + cells, mask=(at < WIDTH)[None, :], other=0.0)
    answer = tl.sum(weight[:, None] * part, axis=0) / mass
    tl.store(out + head * WIDTH + at, answer.to(out.dtype.element_ty), mask=at < WIDTH)
