"""The kernels as functions of tensors: shapes checked, outputs allocated, grids chosen.

Everything a launch depends on is a shape or a Python number that never changes for a buffer, so a CUDA graph may
hold it; positions are read on the device.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .activations import gate_product, snake
from .attention import attend_cached, join_splits
from .choosing import choose_codes
from .norms import norm_rows
from .philox import uniform_rows

FEW_TOKENS = 2
"""The most new tokens a row may bring to `attention`; longer runs are better served by a kernel made for prompts."""

_ELEMENTS = 1_024
_KEYS = 16
_STAGES = 1
_MOST_SPLITS = 16
# Six a multiprocessor, as many as have room for their registers, of a card that has 132 of them (H100, H200): each
# waits for the keys it has asked for before it asks for more, so only many together keep memory busy.
_ENOUGH_PROGRAMS = 6 * 132


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


def snake_beta(x: Tensor, alpha: Tensor, root: Tensor) -> Tensor:
    """x + (root · sin(alpha · x))² of x (B, T, C); alpha and root (C,)."""
    x = x.contiguous()
    out = torch.empty_like(x)
    snake[triton.cdiv(out.numel(), _ELEMENTS),](x, alpha, root, out, x.shape[-1], out.numel(), BLOCK=_ELEMENTS)
    return out


def uniforms(seeds: Tensor, frames: Tensor, columns: int) -> Tensor:
    """`sampling.uniforms` of int64 seeds and frames (B,): float32 (B, columns), columns a multiple of 4."""
    rows, groups = seeds.shape[0], columns // 4
    out = torch.empty(rows, columns, device=seeds.device)
    grid = (triton.cdiv(rows * groups, 128),)
    uniform_rows[grid](seeds, frames, out, rows * groups, GROUPS=groups, BLOCK=128)
    return out


def pick(scores: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniforms: Tensor) -> Tensor:
    """`sampling.pick` of float32 scores (B, V): int64 (B,)."""
    rows, vocab = scores.shape
    codes = torch.empty(rows, dtype=torch.int64, device=scores.device)
    bits = (vocab - 1).bit_length()
    choose_codes[(rows,)](
        scores.contiguous(),
        temperature,
        top_k,
        top_p,
        uniforms,
        codes,
        vocab,
        uniforms.stride(0),
        BITS=bits,
        num_warps=8,
    )
    return codes


def attention(
    heads: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    rotary: tuple[Tensor, Tensor],
    keys: Tensor,
    values: Tensor,
    positions: Tensor | int,
    eps: float,
    *,
    ring: bool = False,
) -> Tensor:
    """Norm, rotate and store new heads, then attend to all up to each token's own position: (B, T, H·K).

    heads (B, T, H+2G, K), dense: queries, keys and values as projected. norms: of query and key, (K,) each. rotary:
    cosines and sines (B or 1, T, K), or a table (P, K) of all positions. keys, values (S, G, T_all, K): one layer's
    storage, B <= S; a ring holds the latest T_all positions, of which the new one is the last. positions (B,): that of
    each row's first token, or one for all. T <= FEW_TOKENS, 1 for a ring.
    """
    rows, tokens, both, width = heads.shape
    shared = keys.shape[1]
    group = both // shared - 2
    stepped = isinstance(positions, Tensor)
    where, start = (positions, 0) if isinstance(positions, Tensor) else (keys, positions)
    cos, sin = rotary
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
        TABLE=cos.ndim == 2, STAGES=_STAGES,
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
