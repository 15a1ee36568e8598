"""What some kernels are given, by name. Needs no triton, so that whoever calls them can make it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SpokenRules:
    """The talker's rules for a first code (see sampling.py).

    penalties float32 (S,); seen bool (S+1, V), in which the choice is noted for the rows targets int64 (B,); frames
    int64 (B,): made so far. The last `reserved` ids are no codes, but that `end` may come after `least` frames.
    """

    penalties: Tensor
    seen: Tensor
    frames: Tensor
    targets: Tensor
    reserved: int
    end: int
    least: int


@dataclass(frozen=True)
class Entry:
    """Where the rows of chosen codes go: those of table (V, D) to inputs (B, D), the last of all for ids beyond; and
    with gains (D,) their norms to normed (B, D), dense."""

    table: Tensor
    inputs: Tensor
    gains: Tensor | None = None
    normed: Tensor | None = None
    eps: float = 0.0
