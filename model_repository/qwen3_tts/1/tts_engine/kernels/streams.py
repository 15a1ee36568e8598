"""The codec's causal layers around their products: each takes what is remembered of a stream and leaves what is to be
remembered, in one launch.

x is (B, T, C), dense. tail (S+1, n, C), its rows tail_step apart: the inputs before x of each slot. targets int64 (B,):
the row that slot b's new tail goes to; none but b is also read. What a program writes of a tail, no other one reads.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import wave_of


@triton.jit
def _heard(x, added, alpha, root, cells, channel, within, inside, ADD: tl.constexpr, WAVE: tl.constexpr):
    """x, or x + added, and the activation of that, or that again."""
    value = tl.load(x + cells, mask=inside, other=0.0)
    if ADD:
        value += tl.load(added + cells, mask=inside, other=0.0)
    heard = value
    if WAVE:
        pitch = tl.load(alpha + channel, mask=within, other=0.0)
        heard = wave_of(value, pitch, tl.load(root + channel, mask=within, other=0.0))
    return value, heard


@triton.jit
def join_tail(
    x, added, alpha, root, tail, targets, total, joined, length, channels, tail_step,
    ADD: tl.constexpr, WAVE: tl.constexpr, KEEP: tl.constexpr, KEEP_PAD: tl.constexpr, TIME: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """joined (B, KEEP + T, C): what is remembered, and behind it y = x, or ADD x + added, with a WAVE its activation.

    total (B, T, C): y before the activation, where something was ADDed. The end of joined is remembered. One program
    a row, block of channels and part: part 0 is all of the tail, the others are TIME samples each.
    """
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
    channel = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    within = channel < channels
    x += row * length * channels
    added += row * length * channels
    joined += row * (length + KEEP) * channels
    if part == 0:
        place = tl.arange(0, KEEP_PAD)[:, None]
        kept = (place < KEEP) & within
        old = tl.load(tail + row * tail_step + place * channels + channel, mask=kept)
        tl.store(joined + place * channels + channel, old, mask=kept)
        source = place + length
        moved = tl.load(tail + row * tail_step + source * channels + channel, mask=kept & (source < KEEP), other=0.0)
        fresh = kept & (source >= KEEP)
        _, end = _heard(x, added, alpha, root, (source - KEEP) * channels + channel, channel, within, fresh, ADD, WAVE)
        tl.debug_barrier()  # what one lane reads, another one overwrites
        cells = tail + tl.load(targets + row) * tail_step + place * channels + channel
        tl.store(cells, tl.where(source < KEEP, moved, end), mask=kept)
    else:
        time = ((part - 1) * TIME + tl.arange(0, TIME))[:, None]
        inside = (time < length) & within
        value, heard = _heard(x, added, alpha, root, time * channels + channel, channel, within, inside, ADD, WAVE)
        tl.store(joined + (KEEP + time) * channels + channel, heard, mask=inside)
        if ADD:
            tl.store(total + (row * length + time) * channels + channel, value, mask=inside)


@triton.jit
def overlap_halves(
    both, tail, targets, out, length, width, tail_step, TIME: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out (B, T, W): the first half of both (B, T, 2·W) and the second half of the one before, at the beginning the
    tail (S+1, 1, W); the last second half is remembered. One program a row, block of columns and TIME places."""
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
    column = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    time = (part * TIME + tl.arange(0, TIME))[:, None]
    inside = (time < length) & (column < width)
    source = both + (row * length + time) * (2 * width) + column
    before = tl.load(source - width, mask=inside & (time > 0), other=0.0)
    before += tl.load(tail + row * tail_step + column + time * 0, mask=inside & (time == 0), other=0.0)
    own = tl.load(source, mask=inside, other=0.0)
    tl.store(out + (row * length + time) * width + column, own + before, mask=inside)
    if part == 0:
        last = tl.load(both + (row * length + length) * (2 * width) - width + column, mask=column < width)
        tl.debug_barrier()  # what one lane reads, another one overwrites
        tl.store(tail + tl.load(targets + row) * tail_step + column, last, mask=column < width)


@triton.jit
def depthwise_norm(
    x, weight, bias, gain, shift, tail, targets, out, length, channels, tail_step, eps,
    KERNEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out (B, T, C): each channel's convolution with its KERNEL weights (KERNEL, C) over the KERNEL - 1 inputs before
    and its own, with a bias, then layer norm with gain and shift, (C,) each. One program a row, all channels."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < channels
    x += row * length * channels
    old = tail + row * tail_step
    for time in range(length):
        value = tl.load(bias + at, mask=inside, other=0.0)
        for place in tl.static_range(KERNEL):
            earlier = at * 0 + time + place < KERNEL - 1
            heard = tl.load(old + (time + place) * channels + at, mask=inside & earlier, other=0.0)
            heard += tl.load(x + (time + place - KERNEL + 1) * channels + at, mask=inside & ~earlier, other=0.0)
            value += heard * tl.load(weight + place * channels + at, mask=inside, other=0.0)
        centred = tl.where(inside, value - tl.sum(value, axis=0) / channels, 0.0)
        scale = tl.rsqrt(tl.sum(centred * centred, axis=0) / channels + eps)
        made = centred * scale * tl.load(gain + at, mask=inside, other=0.0) + tl.load(
            shift + at, mask=inside, other=0.0
        )
        tl.store(out + (row * length + time) * channels + at, made, mask=inside)
    new = tail + tl.load(targets + row) * tail_step
    for place in tl.static_range(KERNEL - 1):
        # Rising: a place is read before it is written, and by the lane that writes it.
        earlier = at * 0 + length + place < KERNEL - 1
        kept = tl.load(old + (length + place) * channels + at, mask=inside & earlier, other=0.0)
        kept += tl.load(x + (length + place - KERNEL + 1) * channels + at, mask=inside & ~earlier, other=0.0)
        tl.store(new + place * channels + at, kept, mask=inside)


@triton.jit
def turn_rows(positions, frequencies, cos, sin, HALF: tl.constexpr, PAD: tl.constexpr):
    """cos, sin (B, 2·HALF) of positions int64 (B,) times frequencies float32 (HALF,), once for each half of a head."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, PAD)
    inside = at < HALF
    angle = tl.load(positions + row).to(tl.float32) * tl.load(frequencies + at, mask=inside, other=0.0)
    target = row * (2 * HALF) + at
    stay, turn = tl.cos(angle).to(cos.dtype.element_ty), tl.sin(angle).to(sin.dtype.element_ty)
    tl.store(cos + target, stay, mask=inside)
    tl.store(cos + target + HALF, stay, mask=inside)
    tl.store(sin + target, turn, mask=inside)
    tl.store(sin + target + HALF, turn, mask=inside)
