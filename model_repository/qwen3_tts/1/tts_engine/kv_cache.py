"""Static storage for attention keys and values, one region per slot, and the ways it is written and read.

Storage never moves or grows, so that a CUDA graph may capture any step over it. It does not know which
slots are in use.
"""

from __future__ import annotations

from functools import cached_property

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

    @property
    def length(self) -> int:
        """Positions of a slot."""
        return self.keys.shape[3]

    def part(self, start: int, end: int) -> KeyValueCache:
        """Positions start … end-1 of every slot as a cache of their own, in the same storage."""
        part = KeyValueCache.__new__(KeyValueCache)
        part.keys, part.values = self.keys[:, :, :, start:end], self.values[:, :, :, start:end]
        return part

    def span(self, rows: slice, start: int) -> SpanView:
        """A view for tokens that go to the same positions start, start+1, … in all of `rows`."""
        return SpanView(self, rows, start)

    def step(self, positions: Tensor, length: int) -> StepView:
        """A view for one token per row, row b at `positions[b]`; attention reads the first `length` positions."""
        return StepView(self, positions, length)

    def packed(self, places: Tensor) -> PackedView:
        """A view for tokens that go to `places` (T,) of the only slot, which holds several prompts end to end."""
        return PackedView(self, places)

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
        stored_keys, stored_values, _ = self.place(layer)
        stored_keys[:, :, self._start : end] = keys
        stored_values[:, :, self._start : end] = values
        return stored_keys[:, :, :end], stored_values[:, :, :end]

    def place(self, layer: int) -> tuple[Tensor, Tensor, int]:
        """The rows' storage (B, G, T, K) of a layer, and where in it the next token goes."""
        return self._cache.keys[layer, self._rows], self._cache.values[layer, self._rows], self._start


class StepView:
    """Appends one token to each of the first B slots, each at its own position."""

    def __init__(self, cache: KeyValueCache, positions: Tensor, length: int) -> None:
        self._cache, self._length = cache, length
        self._positions = positions

    @cached_property
    def _places(self) -> Tensor:
        """Each head's next place in a layer's storage, seen as one long list of positions."""
        cache, positions = self._cache, self._positions
        slots = torch.arange(positions.shape[0], device=positions.device)[:, None]
        heads = torch.arange(cache.keys.shape[2], device=positions.device)
        return ((slots * heads.shape[0] + heads) * cache.length + positions[:, None]).flatten()

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, G, 1, K); returns the rows' first `length` positions, (B, G, length, K)."""
        rows = keys.shape[0]
        stored_keys, stored_values = self._cache.keys[layer, :rows], self._cache.values[layer, :rows]
        for stored, new in ((self._cache.keys[layer], keys), (self._cache.values[layer], values)):
            stored.flatten(0, 2).index_copy_(0, self._places, new.flatten(0, 2))
        return stored_keys[:, :, : self._length], stored_values[:, :, : self._length]

    def place(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """All storage (S, G, T, K) of a layer, and where in it each row's token goes."""
        return self._cache.keys[layer], self._cache.values[layer], self._positions


class PackedView:
    """Appends runs of tokens of several prompts at once, each run behind what is stored of its prompt."""

    def __init__(self, cache: KeyValueCache, places: Tensor) -> None:
        self._cache, self._places = cache, places

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (1, G, T, K); returns all prompts' (1, G, T_all, K)."""
        stored_keys, stored_values = self._cache.keys[layer], self._cache.values[layer]
        stored_keys.index_copy_(2, self._places, keys)
        stored_values.index_copy_(2, self._places, values)
        return stored_keys, stored_values


class RingView:
    """Appends tokens to the first B rings of R places, in which each position takes the place of the one R before."""

    def __init__(self, keys: Tensor, values: Tensor, frames: Tensor, tokens: int, window: int) -> None:
        """keys, values (L, S, H, R, K). frames (B,): the position of each row's first new token. window: how many
        positions a query sees, its own among them."""
        self._keys, self._values, self._frames = keys, values, frames
        self._tokens, self._window = tokens, window

    @cached_property
    def positions(self) -> Tensor:
        """Of the new tokens, (B, T)."""
        return self._frames[:, None] + torch.arange(self._tokens, device=self._frames.device)

    @cached_property
    def visible(self) -> Tensor:
        """Which places each query may look at: bool (B, 1, T, R).

        Place r holds the latest position congruent to r, up to the last one of this call.
        """
        ring, latest = self._keys.shape[3], self.positions[:, -1:]
        held = latest - (latest - torch.arange(ring, device=latest.device)) % ring
        held, query = held[:, None, None], self.positions[:, None, :, None]
        return (held >= 0) & (held <= query) & (held > query - self._window)

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        rows = torch.arange(self._frames.shape[0], device=self._frames.device)
        return rows[:, None], self.positions % self._keys.shape[3]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, H, T, K); returns all that the rows' rings hold, (B, H, R, K).

        The places written lie outside the window of any position before them, so a stream that is then held, and is
        written again when it goes on, has lost nothing.
        """
        rows = keys.shape[0]
        stored_keys, stored_values = self._keys[layer, :rows], self._values[layer, :rows]
        stored_keys.transpose(1, 2)[self._places] = keys.transpose(1, 2)
        stored_values.transpose(1, 2)[self._places] = values.transpose(1, 2)
        return stored_keys, stored_values

    @property
    def turns_once(self) -> bool:
        """Whether one token comes to a ring of just the window, so that it sees all that is stored."""
        return self._tokens == 1 and self._keys.shape[3] == self._window

    def place(self, layer: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """All storage of a layer and the new token's position, where that is all there is to know."""
        return (self._keys[layer], self._values[layer], self._frames) if self.turns_once else None
