"""Static storage for attention keys and values, one region per slot, and the two ways it is written and read.

Storage never moves or grows, so that a CUDA graph may capture any step over it. It does not know which
slots are in use.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValueCache:
    """Keys and values of L layers for S slots and T positions: two tensors (L, S, G, T, K)."""

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        kv_heads: int,
        length: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (layers, slots, kv_heads, length, head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    def span(self, rows: slice, start: int) -> SpanView:
        """A view for tokens that go to the same positions start, start+1, … in all of `rows`."""
        return SpanView(self, rows, start)

    def step(self, positions: Tensor, length: int) -> StepView:
        """A view for one token per row, row b at `positions[b]`; attention reads the first `length` positions."""
        return StepView(self, positions, length)

    def load(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Copy keys and values (L, G, T, K) to the first positions of `slot`."""
        length = keys.shape[2]
        self.keys[:, slot, :, :length] = keys
        self.values[:, slot, :, :length] = values


class SpanView:
    """Appends a run of tokens, as prefill and the code predictor do."""

    def __init__(self, cache: KeyValueCache, rows: slice, start: int) -> None:
        self._cache, self._rows, self._start = cache, rows, start

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, G, T, K); returns all of the rows' up to there, (B, G, start+T, K)."""
        end = self._start + keys.shape[2]
        stored_keys = self._cache.keys[layer, self._rows]
        stored_values = self._cache.values[layer, self._rows]
        stored_keys[:, :, self._start : end] = keys
        stored_values[:, :, self._start : end] = values
        return stored_keys[:, :, :end], stored_values[:, :, :end]


class StepView:
    """Appends one token to each of the first B slots, each at its own position."""

    def __init__(self, cache: KeyValueCache, positions: Tensor, length: int) -> None:
        self._cache, self._length = cache, length
        self._positions = positions
        self._rows = torch.arange(positions.shape[0], device=positions.device)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, G, 1, K); returns the rows' first `length` positions, (B, G, length, K)."""
        rows = keys.shape[0]
        stored_keys, stored_values = self._cache.keys[layer, :rows], self._cache.values[layer, :rows]
        stored_keys[self._rows, :, self._positions] = keys[:, :, 0]
        stored_values[self._rows, :, self._positions] = values[:, :, 0]
        return stored_keys[:, :, : self._length], stored_values[:, :, : self._length]
