"""The kernels as functions of tensors: shapes checked, outputs allocated, grids chosen.

Everything a launch depends on is a shape or a Python number that never changes for a buffer, so a CUDA graph may
hold it; positions are read on the device.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .activations import gate_product
from .arguments import Entry, SpokenRules
from .attention import attend_cached, join_splits
from .choosing import choose_codes
from .gathering import advance_rows, sum_codes, text_rows, write_sheet
from .norms import norm_rows
from .philox import uniform_rows
from .stream_launches import depthwise_normed as depthwise_normed
from .stream_launches import joined as joined
from .stream_launches import overlapped as overlapped
from .stream_launches import snake_beta as snake_beta
from .stream_launches import turns as turns

FEW_TOKENS = 2
"""The most new tokens a row may bring to `attention`; longer runs are better served by a kernel made for prompts."""

_ELEMENTS = 1_024
_KEYS = 16
# Blocks of keys under way: while one is looked at the next two come, which takes 16 KiB and no register too many.
_STAGES = 3
_MOST_SPLITS = 16
# The most ids that a choice compares each with each; a top_k of about half as many is served so.
_SHORTLIST = 128
# Four a multiprocessor, as many as have room for their registers, of a card that has 132 of them (H100, H200).
_ENOUGH_PROGRAMS = 4 * 132


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`layers.rms_norm` of x (…, D) with a weight (D,), or of x (…, H, D) with one for each head, (H, D)."""
    x = x.contiguous()
    normed = torch.empty_like(x)
    _norm(x, x, weight, normed, normed, eps, add=False)
    return normed


def add_norm(x: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`layers.add_norm` of x and added (…, D)."""
    x, added = x.contiguous(), added.contiguous()
    total, normed = torch.empty_like(x), torch.empty_like(x)
    _norm(x, added, weight, total, normed, eps, add=True)
    return total, normed


def gated(both: Tensor) -> Tensor:
    """silu(gate) · up of gate and up side by side, (…, 2W): (…, W)."""
    both = both.contiguous()
    width = both.shape[-1] // 2
    out = both.new_empty(*both.shape[:-1], width)
    gate_product[triton.cdiv(out.numel(), _ELEMENTS),](both, out, width, out.numel(), BLOCK=_ELEMENTS)
    return out


def uniforms(seeds: Tensor, frames: Tensor, columns: int) -> Tensor:
    """`sampling.uniforms` of int64 seeds and frames (B,): float32 (B, columns), columns a multiple of 4."""
    rows, groups = seeds.shape[0], columns // 4
    out = torch.empty(rows, columns, device=seeds.device)
    grid = (triton.cdiv(rows * groups, 128),)
    uniform_rows[grid](seeds, frames, out, rows * groups, GROUPS=groups, BLOCK=128)
    return out


def pick(
    scores: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    uniforms: Tensor,
    *,
    codes: Tensor | None = None,
    spoken: SpokenRules | None = None,
    entry: Entry | None = None,
) -> Tensor:
    """`sampling.pick` of scores (B, V): int64 (B,), in `codes` if that is given.

    spoken: the talker's rules, before all others. entry: where the next pass finds what was chosen.
    """
    rows, vocab = scores.shape
    codes = torch.empty(rows, dtype=torch.int64, device=scores.device) if codes is None else codes
    entries = torch.empty(rows, _SHORTLIST, dtype=torch.int64, device=scores.device)
    asked = spoken or SpokenRules(temperature, temperature, codes, codes, 0, 0, 0)
    taken = entry or Entry(scores, scores)
    gains, normed = (taken.inputs if one is None else one for one in (taken.gains, taken.normed))
    width = taken.table.shape[1] if entry is not None else 0
    choose_codes[(rows,)](
        *(scores.contiguous(), temperature, top_k, top_p, uniforms, codes, entries),
        *(asked.penalties, asked.seen, asked.frames, asked.targets),
        *(taken.table, gains, taken.inputs, normed, vocab, uniforms.stride(0), codes.stride(0)),
        *(asked.reserved, asked.end, asked.least, taken.table.shape[0] - 1, taken.inputs.stride(0), taken.eps),
        BITS=(vocab - 1).bit_length(), SHORT=_SHORTLIST, SPOKEN=spoken is not None, WIDTH=width,
        WIDTH_PAD=triton.next_power_of_2(max(width, 1)), NORMED=taken.gains is not None, num_warps=16,
    )  # fmt: skip
    return codes


def summed(codes: Tensor, tables: Tensor) -> Tensor:
    """The sum (B, D) of the rows of tables (Q, V, D) that codes int64 (B, Q) name; ids beyond name the last."""
    rows, (books, vocab, width) = codes.shape[0], tables.shape
    out = tables.new_empty(rows, width)
    sum_codes[(rows,)](
        codes, tables, tables, tables, tables, out, out, codes.stride(0), vocab - 1, 0.0,
        SKIP=0, BOOKS=books, NEXT=False, WIDTH=width, WIDTH_PAD=triton.next_power_of_2(width),
    )  # fmt: skip
    return out


def next_inputs(
    codes: Tensor, first: Tensor, tables: Tensor, text: Tensor, gains: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """What the talker reads after a frame (B, 1, D), and its norm: the embeddings of its codes (B, Q), code 0's from
    first (V, D) and the others' from tables (Q-1, V', D), and text (B, D)."""
    rows, (books, vocab, width) = codes.shape[0], tables.shape
    out, normed = tables.new_empty(2, rows, 1, width)
    sum_codes[(rows,)](
        codes, tables, first, text, gains, out, normed, codes.stride(0), vocab - 1, eps,
        SKIP=1, BOOKS=books, NEXT=True, WIDTH=width, WIDTH_PAD=triton.next_power_of_2(width),
    )  # fmt: skip
    return out, normed


def next_text(text: Tensor, frames: Tensor, counts: Tensor, table: Tensor) -> Tensor:
    """The rows (B, D) of table (V, D) for text[b, min(frames[b], counts[b])]; text int64 (B, n)."""
    rows, width = text.shape[0], table.shape[1]
    out = table.new_empty(rows, width)
    text_rows[(rows,)](
        text, frames, counts, table, out, text.stride(0), WIDTH=width, BLOCK=min(1_024, triton.next_power_of_2(width))
    )
    return out


def advance(
    targets: Tensor, counts: Tensor, more: Tensor | None = None, by: int = 1, made: Tensor | None = None,
    hidden: Tensor | None = None,
) -> None:  # fmt: skip
    """Let counts (S+1,), and more, grow `by` at targets (B,), and put made (B, D) into hidden (S+1, D) there."""
    width = made.shape[1] if made is not None else 0
    advance_rows[(targets.shape[0],)](
        targets, counts, counts if more is None else more, by, counts if made is None else made,
        counts if hidden is None else hidden,
        BOTH=more is not None, WIDTH=width, WIDTH_PAD=triton.next_power_of_2(max(1, width)),
    )  # fmt: skip


def sheet(samples: Tensor, codes: Tensor, end: int, full: int) -> Tensor:
    """`landing.sheet_of` a frame, int16 (B, n+Q+1), of samples (B, n) times `full` and codes (B, Q), both dense; it has
    ended where code 0 is `end`."""
    rows, length = samples.shape
    out = torch.empty(rows, length + codes.shape[1] + 1, dtype=torch.int16, device=samples.device)
    write_sheet[(rows, triton.cdiv(out.shape[1], _ELEMENTS))](
        samples, codes, out, end, float(full),
        SAMPLES=length, CODES=codes.shape[1], BLOCK=_ELEMENTS, enable_fp_fusion=False,
    )  # fmt: skip
    return out


def attention(
    heads: Tensor, norms: tuple[Tensor, Tensor] | None, rotary: tuple[Tensor, Tensor], keys: Tensor, values: Tensor,
    positions: Tensor | int, eps: float, *, ring: bool = False,
) -> Tensor:  # fmt: skip
    """Norm, rotate and store new heads, then attend to all up to each token's own position: (B, T, H·K).

    heads (B, T, H+2G, K), dense: queries, keys and values as projected. norms: of query and key, (K,) each. rotary:
    cosines and sines (B or 1, T, K), or a table (P, K) of all positions. keys, values (S, G, T_all, K): one layer's
    storage, B <= S; a ring keeps the latest T_all. positions (B,): of each row's first token, or one for all. T <=
    FEW_TOKENS, 1 for a ring.
    """
    rows, tokens, both, width = heads.shape
    shared = keys.shape[1]
    group, (cos, sin) = both // shared - 2, rotary
    stepped = isinstance(positions, Tensor)
    where, start = (positions, 0) if isinstance(positions, Tensor) else (keys, positions)
    out = torch.empty(rows, tokens, shared * group * width, device=heads.device, dtype=heads.dtype)
    # A prompt's last token comes with storage of any length, and each number of splits is a kernel to compile.
    splits = splits_for(rows * tokens * shared, keys.shape[2]) if stepped and not ring else 1
    sums = peaks = masses = out
    if splits > 1:
        sums = torch.empty(rows * tokens, shared * group, splits, width, device=out.device)
        peaks, masses = torch.empty(2, rows * tokens, shared * group, splits, device=out.device)
    shape = {"WIDTH": width, "WIDTH_PAD": triton.next_power_of_2(width), "SPLITS": splits}
    attend_cached[(rows * tokens, shared, splits)](
        heads, *(norms or (heads, heads)), cos, sin, where, start, keys, values, out, sums, peaks, masses,
        both * width, cos.stride(0) if cos.ndim == 3 and cos.shape[0] > 1 else 0, cos.stride(-2),
        keys.stride(0), keys.stride(1), width**-0.5, eps,
        TOKENS=tokens, SHARED=shared, GROUP=group, GROUP_PAD=triton.next_power_of_2(group), **shape,
        RING=keys.shape[2] if ring else 0, BLOCK=_KEYS, STEPPED=stepped, NORMED=norms is not None,
        TABLE=cos.ndim == 2, STAGES=_STAGES if stepped else 1,
    )  # fmt: skip
    if splits > 1:
        join_splits[(rows * tokens * shared * group,)](sums, peaks, masses, out, **shape, num_warps=1)
    return out


def splits_for(programs: int, length: int) -> int:
    """Into how many parts keys are dealt, when there are `programs` without and up to `length` keys: a power of two."""
    splits = 1
    while splits < _MOST_SPLITS and programs * splits * 2 <= _ENOUGH_PROGRAMS and length >= splits * 2 * _KEYS:
        splits *= 2
    return splits


def _norm(x: Tensor, added: Tensor, weight: Tensor, total: Tensor, normed: Tensor, eps: float, *, add: bool) -> None:
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    grid = (x.numel() // width,)
    warps = 4 if block <= 2_048 else 8
    gains = weight.numel() // width
    norm_rows[grid](x, added, weight, total, normed, width, gains, eps, ADD=add, BLOCK=block, num_warps=warps)
