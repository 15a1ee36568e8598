"""All state of the utterances in S slots as static tensors on the device, and how a slot's is filled and moved.

Row `slot` of every tensor is one utterance's. Some have one row more, for what comes of rows that are held or empty.
Nothing moves or grows, so that a CUDA graph may hold the addresses. Numbers of the host are filled in, never assigned:
torch makes a tensor of a number assigned to one place, and copies it while the host waits. Knows no network and no
request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import CODEBOOKS, EngineConfig
from .devices import upload
from .kv_cache import KeyValueCache
from .memory import positions_per_slot, text_per_slot
from .model_config import ModelConfig, TransformerConfig
from .networks.codec_decoder import CodecDecoder
from .networks.codec_state import CodecSnapshot, CodecState
from .sampling import SamplingRows
from .sampling_values import Sampling


@dataclass(frozen=True)
class Parked:
    """A copy of all that a slot holds of its utterance, apart from any slot."""

    tensors: list[Tensor]

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True)
class SlotState:
    """hidden (S+1, D), positions and frames int64 (S+1,): what the talker said last, how many keys a slot holds, how
    many frames it has made. text int64 (S, n): ids to be fed, one a frame, count (S,) of them, then the padding.
    targets int64 (S,): where what a step makes of row b goes: b, or S and nobody reads it. slots: 0 … S-1.
    """

    cache: KeyValueCache
    frame_cache: KeyValueCache
    codec: CodecState
    sampling: SamplingRows
    hidden: Tensor
    positions: Tensor
    frames: Tensor
    text: Tensor
    count: Tensor
    targets: Tensor
    slots: Tensor

    @classmethod
    def allocate(
        cls, model: ModelConfig, config: EngineConfig, codec: CodecDecoder, device: torch.device, dtype: torch.dtype
    ) -> SlotState:
        """State for config.slots slots. dtype: of the talker and the predictor."""
        slots = config.slots
        assert slots > 0, "how many slots there are is settled before they are made"

        def whole(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        return cls(
            cache=new_cache(model.talker, slots, positions_per_slot(config), device, dtype),
            frame_cache=new_frame_cache(model.predictor, slots, device, dtype),
            codec=codec.allocate(slots, frames_per_call=1),
            sampling=SamplingRows(slots, model, device),
            hidden=torch.zeros(slots + 1, model.talker.hidden, device=device, dtype=dtype),
            positions=whole(slots + 1),
            frames=whole(slots + 1),
            text=whole(slots, text_per_slot(config)),
            count=whole(slots),
            targets=torch.full((slots,), slots, dtype=torch.int64, device=device),
            slots=torch.arange(slots, device=device),
        )

    def enter(
        self, slot: int, keys: Tensor, values: Tensor, hidden: Tensor, sampling: Sampling, stream: CodecSnapshot | None
    ) -> None:
        """Start a generation: keys and values (L, G, T, K) of its prompt and the last hidden state (D,) of it."""
        self.cache.load(slot, keys, values)
        self.hidden[slot] = hidden
        self.positions[slot].fill_(keys.shape[2])
        self.frames[slot].zero_()
        self.sampling.admit(slot, sampling)
        if stream is not None:
            self.codec.put(slot, stream)
        else:
            self.codec.reset(slot)

    def lay(self, slot: int, start: int, ids: Sequence[int], count: int) -> None:
        """Lay text ids from place `start` on; `count` ids are text in all, what follows them is the padding."""
        self.text[slot, start : start + len(ids)] = upload(ids, self.text.device)
        self.count[slot].fill_(count)

    def move(self, source: int, target: int, length: int, text: int) -> None:
        """Copy a slot, of which `length` positions and `text` ids may be in use."""
        length = min(length, self.cache.length)
        self.cache.load(target, self.cache.keys[:, source, :, :length], self.cache.values[:, source, :, :length])
        self.sampling.move(source, target)
        self.codec.move(source, target)
        self.text[target, : text + 1] = self.text[source, : text + 1]
        for buffer in (self.hidden, self.positions, self.frames, self.count):
            buffer[target] = buffer[source]

    def park(self, slot: int, length: int, text: int) -> Parked:
        """Copy out what a slot holds, with `length` positions in use and `text` ids laid out."""
        return Parked([part.clone() for part in self._parts(slot, length, text)])

    def unpark(self, slot: int, parked: Parked, length: int, text: int) -> None:
        """Go on in `slot` with what was copied out; length and text as they were then."""
        for part, kept in zip(self._parts(slot, length, text), parked.tensors, strict=True):
            part.copy_(kept)

    def _parts(self, slot: int, length: int, text: int) -> list[Tensor]:
        """Views of all that a later frame of `slot` may depend on."""
        return [
            *(storage[:, slot, :, :length] for storage in (self.cache.keys, self.cache.values)),
            *(part[slot] for part in (self.hidden, self.positions, self.frames, self.count)),
            self.text[slot, : text + 1],
            *self.codec.parts(slot),
            *self.sampling.parts(slot),
        ]


def new_cache(
    config: TransformerConfig, slots: int, length: int, device: torch.device, dtype: torch.dtype
) -> KeyValueCache:
    """Storage for one stack's keys and values."""
    return KeyValueCache(
        layers=config.layers,
        slots=slots,
        kv_heads=config.kv_heads,
        length=length,
        head_dim=config.head_dim,
        device=device,
        dtype=dtype,
    )


def new_frame_cache(config: TransformerConfig, slots: int, device: torch.device, dtype: torch.dtype) -> KeyValueCache:
    """Storage for the predictor's keys and values of one frame."""
    if device.type == "cpu":
        # So few keys a CPU attends to faster in float32, which holds those of bfloat16 as they are.
        dtype = torch.promote_types(dtype, torch.float32)
    return new_cache(config, slots, CODEBOOKS, device, dtype)
