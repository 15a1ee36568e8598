"""Attention of a few new tokens over cached keys: heads normed, rotated and stored, then read back no further than
the row's own position.

Row r below is token r % TOKENS of slot r // TOKENS, TOKENS being 1 in a step. Its position is positions[slot] +
r % TOKENS when STEPPED, else start + r % TOKENS. A layer's keys and values are (S, G, T, K), the last two dense. PAD is
the next power of two, where a width is none.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _position(row, positions, start, TOKENS: tl.constexpr, STEPPED: tl.constexpr):
    if STEPPED:
        start = tl.load(positions + row // TOKENS)
    return tl.cast(start, tl.int64) + row % TOKENS


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
def _turned(source, norm, cos, sin, eps, NORMED: tl.constexpr, HALF: tl.constexpr, PAD: tl.constexpr):
    """Both halves of one head, normed and rotated; rounds after each operation it stands for."""
    kind = source.dtype.element_ty
    at = tl.arange(0, PAD)
    inside = at < HALF
    low = tl.load(source + at, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(source + HALF + at, mask=inside, other=0.0).to(tl.float32)
    if NORMED:
        scale = tl.rsqrt((tl.sum(low * low, axis=0) + tl.sum(high * high, axis=0)) / (2 * HALF) + eps)
        low_gain = tl.load(norm + at, mask=inside, other=0.0).to(tl.float32)
        high_gain = tl.load(norm + HALF + at, mask=inside, other=0.0).to(tl.float32)
        low = (low_gain * (low * scale).to(kind).to(tl.float32)).to(kind).to(tl.float32)
        high = (high_gain * (high * scale).to(kind).to(tl.float32)).to(kind).to(tl.float32)
    low_cos = tl.load(cos + at, mask=inside, other=0.0).to(tl.float32)
    high_cos = tl.load(cos + HALF + at, mask=inside, other=0.0).to(tl.float32)
    low_sin = tl.load(sin + at, mask=inside, other=0.0).to(tl.float32)
    high_sin = tl.load(sin + HALF + at, mask=inside, other=0.0).to(tl.float32)
    new_low = (low * low_cos).to(kind).to(tl.float32) + (-high * low_sin).to(kind).to(tl.float32)
    new_high = (high * high_cos).to(kind).to(tl.float32) + (low * high_sin).to(kind).to(tl.float32)
    return new_low.to(kind), new_high.to(kind)


@triton.jit(do_not_specialize=["start"])
def place_heads(
    query, key, value, query_norm, key_norm, cos, sin, positions, start, turned, keys, values,
    query_step, key_step, value_step, rotary_slot, rotary_token, slot_step, head_step, eps,
    TOKENS: tl.constexpr, HEADS: tl.constexpr, SHARED: tl.constexpr, HALF: tl.constexpr, PAD: tl.constexpr,
    STEPPED: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    """turned (B·T, H, K): queries normed and rotated; new keys, so treated, and values go to their places.

    One program a row and head: H queries, G keys, G values. query, key, value: rows of dense heads, *_step apart.
    cos, sin: the row's angles at slot · rotary_slot + token · rotary_token.
    """
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot, token = row // TOKENS, row % TOKENS
    at = tl.arange(0, PAD)
    inside = at < HALF
    angle = slot * rotary_slot + token * rotary_token
    place = slot * slot_step + _position(row, positions, start, TOKENS, STEPPED) * (2 * HALF)
    if head < HEADS:
        source = query + row * query_step + head * (2 * HALF)
        low, high = _turned(source, query_norm, cos + angle, sin + angle, eps, NORMED, HALF, PAD)
        target = turned + (row * HEADS + head) * (2 * HALF)
        tl.store(target + at, low, mask=inside)
        tl.store(target + HALF + at, high, mask=inside)
    elif head < HEADS + SHARED:
        source = key + row * key_step + (head - HEADS) * (2 * HALF)
        low, high = _turned(source, key_norm, cos + angle, sin + angle, eps, NORMED, HALF, PAD)
        target = keys + place + (head - HEADS) * head_step
        tl.store(target + at, low, mask=inside)
        tl.store(target + HALF + at, high, mask=inside)
    else:
        source = value + row * value_step + (head - HEADS - SHARED) * (2 * HALF)
        target = values + place + (head - HEADS - SHARED) * head_step
        tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)
        tl.store(target + HALF + at, tl.load(source + HALF + at, mask=inside), mask=inside)


@triton.jit(do_not_specialize=["start"])
def attend_cached(
    turned, keys, values, positions, start, out, sums, peaks, masses, slot_step, head_step, scale,
    TOKENS: tl.constexpr, SHARED: tl.constexpr, GROUP: tl.constexpr, GROUP_PAD: tl.constexpr,
    WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr, STEPPED: tl.constexpr,
):  # fmt: skip
    """out (B·T, H, K): what each query sees of positions up to its own. One program a row, group of heads and split.

    The row's keys are dealt evenly to SPLITS programs. With more than one, each leaves its unscaled sum float32
    (B·T, H, SPLITS, K), its peak and its mass (B·T, H, SPLITS) to `join_splits` instead.
    """
    row, shared, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    member, at = tl.arange(0, GROUP_PAD), tl.arange(0, WIDTH_PAD)
    inside = (member < GROUP)[:, None] & (at < WIDTH)[None, :]
    head = row * (SHARED * GROUP) + shared * GROUP + member
    query = tl.load(turned + head[:, None] * WIDTH + at[None, :], mask=inside, other=0.0).to(tl.float32) * scale
    length = _position(row, positions, start, TOKENS, STEPPED) + 1
    share = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK) * BLOCK
    begin, end = split * share, tl.minimum(split * share + share, length)
    base = (row // TOKENS) * slot_step + shared * head_step
    peak = tl.full((GROUP_PAD,), float("-inf"), tl.float32)
    mass = tl.zeros((GROUP_PAD,), tl.float32)
    total = tl.zeros((GROUP_PAD, WIDTH_PAD), tl.float32)
    for first in range(begin, end, BLOCK):
        time = first + tl.arange(0, BLOCK)
        seen = time < end
        cells = base + time[:, None] * WIDTH + at[None, :]
        stored = seen[:, None] & (at < WIDTH)[None, :]
        key = tl.load(keys + cells, mask=stored, other=0.0).to(tl.float32)
        value = tl.load(values + cells, mask=stored, other=0.0).to(tl.float32)
        peak, mass, total = _look(query, key, value, seen, peak, mass, total)
    if SPLITS == 1:
        answer = (total / mass[:, None]).to(out.dtype.element_ty)
        tl.store(out + head[:, None] * WIDTH + at[None, :], answer, mask=inside)
    else:
        part = head * SPLITS + split
        tl.store(sums + part[:, None] * WIDTH + at[None, :], total, mask=inside)
        tl.store(peaks + part, peak, mask=member < GROUP)
        tl.store(masses + part, mass, mask=member < GROUP)


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
