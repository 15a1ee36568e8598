"""What a step reads and writes row by row beside its products: rows of tables, counters, and the sheet of results."""

from __future__ import annotations

import triton
import triton.language as tl

from .norms import weighted_norm


@triton.jit
def sum_codes(
    codes, tables, first, text, gains, out, normed, code_step, last, eps,
    SKIP: tl.constexpr, BOOKS: tl.constexpr, NEXT: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr,
):  # fmt: skip
    """out (B, WIDTH): the sum of the rows of tables (BOOKS, last + 1, WIDTH) that a frame's codes name; one program a
    row.

    codes int64 (B, SKIP + BOOKS), code_step apart, those above `last` taken for it; the first SKIP are left out. NEXT:
    the row of `first` (V, WIDTH) that code 0 names and the row's own of text (B, WIDTH) are added, and the norm with
    its gains goes to normed. Sums in float32, rounded before each addition of NEXT.
    """
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, WIDTH_PAD)
    inside = at < WIDTH
    total = tl.zeros((WIDTH_PAD,), tl.float32)
    for book in tl.static_range(BOOKS):
        code = tl.minimum(tl.load(codes + row * code_step + SKIP + book), last)
        cells = tables + (book * (tl.cast(last, tl.int64) + 1) + code) * WIDTH
        total += tl.load(cells + at, mask=inside, other=0.0).to(tl.float32)
    kind = out.dtype.element_ty
    value = total.to(kind)
    if NEXT:
        spoken = tl.load(first + tl.load(codes + row * code_step) * WIDTH + at, mask=inside, other=0.0)
        value = (spoken.to(tl.float32) + value.to(tl.float32)).to(kind)
        value = (value.to(tl.float32) + tl.load(text + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)).to(
            kind
        )
        gain = tl.load(gains + at, mask=inside, other=0.0)
        tl.store(normed + row * WIDTH + at, weighted_norm(value, gain, WIDTH, eps), mask=inside)
    tl.store(out + row * WIDTH + at, value, mask=inside)


@triton.jit
def text_rows(text, frames, counts, table, out, text_step, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """out (B, WIDTH): the row of table (V, WIDTH) named by each row's next id, text[b, min(frames[b], counts[b])]."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.minimum(tl.load(frames + row), tl.load(counts + row))
    source = table + tl.load(text + row * text_step + place) * WIDTH
    for first in tl.static_range(0, WIDTH, BLOCK):
        at = first + tl.arange(0, BLOCK)
        tl.store(out + row * WIDTH + at, tl.load(source + at, mask=at < WIDTH, other=0.0), mask=at < WIDTH)


@triton.jit
def advance_rows(
    targets, counts, more_counts, by, made, hidden, BOTH: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr
):  # fmt: skip
    """For the rows targets int64 (B,): counts (and BOTH more_counts), int64 (S+1,), grow by `by`; a WIDTH's row of made
    (B, WIDTH) goes to hidden (S+1, WIDTH). Rows that nobody reads may be met by several programs at once."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    tl.store(counts + target, tl.load(counts + target) + by)
    if BOTH:
        tl.store(more_counts + target, tl.load(more_counts + target) + by)
    if WIDTH > 0:
        at = tl.arange(0, WIDTH_PAD)
        value = tl.load(made + row * WIDTH + at, mask=at < WIDTH, other=0.0)
        tl.store(hidden + target * WIDTH + at, value, mask=at < WIDTH)


@triton.jit
def write_sheet(
    samples, codes, sheet, end, full, SAMPLES: tl.constexpr, CODES: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """sheet int16 (B, SAMPLES + CODES + 1): samples (B, SAMPLES), cut to [-1, 1], times `full`, rounded to the
    nearest, of two the even; codes int64 (B, CODES); whether the first of them is `end`."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    sample = tl.load(samples + row * SAMPLES + at, mask=at < SAMPLES, other=0.0).to(tl.float32)
    # What is added takes up all bits behind the point; a product that is fused with it would not be rounded before.
    sound = tl.minimum(tl.maximum(sample, -1.0), 1.0) * full + 12582912.0 - 12582912.0
    code = tl.load(codes + row * CODES + (at - SAMPLES), mask=(at >= SAMPLES) & (at < SAMPLES + CODES), other=0)
    ended = (tl.load(codes + row * CODES) == end).to(tl.int16)
    value = tl.where(at < SAMPLES, sound.to(tl.int16), tl.where(at < SAMPLES + CODES, code.to(tl.int16), ended))
    tl.store(sheet + row * (SAMPLES + CODES + 1) + at, value, mask=at < SAMPLES + CODES + 1)
