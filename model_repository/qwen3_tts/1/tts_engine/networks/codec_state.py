"""What the codec decoder remembers of each slot's stream, and how that is taken out, put back and moved.

Knows the shapes of the state and not the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CodecSnapshot:
    """One stream's state, apart from any slot: frames decoded, the latest keys and values (L, H, n, K), tails (n,)."""

    frames: int
    keys: Tensor
    values: Tensor
    tails: Tensor

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(tensor.nbytes for tensor in (self.keys, self.values, self.tails))


@dataclass(frozen=True)
class CodecState:
    """State of S streams.

    frames (S+1,) int64: frames decoded so far. keys, values (L, S, H, R, K): a ring of the latest R positions,
    rotated; R is reach, how far attention looks back, plus the frames one call may bring. arena (S+1, n): all tails of
    a stream, one behind the other, so that they are moved at once. tails: its parts, see codec_layers.
    The last row of frames and arena takes what is to be forgotten.
    """

    frames: Tensor
    keys: Tensor
    values: Tensor
    arena: Tensor
    tails: list[Tensor]
    reach: int

    def reset(self, slot: int) -> None:
        """Make `slot` the beginning of a new stream.

        No frame may look at old ring entries, but a weight of 0 would not rid them of NaN.
        """
        for part in self.parts(slot):
            part.zero_()

    def move(self, source: int, target: int) -> None:
        """Copy the stream of slot `source` to slot `target`."""
        for old, new in zip(self.parts(source), self.parts(target), strict=True):
            new.copy_(old)

    def parts(self, slot: int) -> list[Tensor]:
        """Views of all that is remembered of the stream of `slot`."""
        return [self.frames[slot], self.keys[:, slot], self.values[:, slot], self.arena[slot]]

    def take(self, slot: int) -> CodecSnapshot:
        """A copy of the stream of `slot`; waits for the device."""
        frames = int(self.frames[slot])
        places = self._places(frames)
        return CodecSnapshot(
            frames=frames,
            keys=self.keys[:, slot].index_select(2, places),
            values=self.values[:, slot].index_select(2, places),
            tails=self.arena[slot].clone(),
        )

    def put(self, slot: int, snapshot: CodecSnapshot) -> None:
        """Make `slot` go on from `snapshot`, which may come from a state with another ring."""
        self.reset(slot)
        self.frames[slot].fill_(snapshot.frames)
        places = self._places(snapshot.frames)
        self.keys[:, slot].index_copy_(2, places, snapshot.keys)
        self.values[:, slot].index_copy_(2, places, snapshot.values)
        self.arena[slot] = snapshot.tails

    def _places(self, frames: int) -> Tensor:
        """Where the ring holds the positions that the next frame may look back to."""
        positions = torch.arange(max(0, frames - self.reach), frames, device=self.keys.device)
        return positions % self.keys.shape[3]
