"""How much memory a slot takes, and how many slots fit: arithmetic on sizes alone.

Knows no tensor and asks no device. All sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from .config import CODEBOOKS, EngineConfig
from .errors import LoadError
from .model_config import ModelConfig, TransformerConfig

BLOCK = 64
"""A CPU's attention reads cached positions in whole blocks, so that the shapes of a step change rarely."""

PACK_POSITIONS = 4_096
"""The most positions of prompts read in one pass: attention over them costs the square of it."""

CPU_SLOTS = 16
"""Slots on a CPU when none are asked for: more than one can speak in real time, and memory is not what ends first."""

GIB, MIB = 1 << 30, 1 << 20

# What a step holds for a row at once: the codec's widest layers, six tensors of 0.75 MB each, and the sorted scores of
# a choice. The rest is small, or is the predictor's and over by then.
_WORKING_PER_SLOT = 8 * MIB
# Recordings of the step for thirteen batch sizes, the libraries' workspaces, and the kernels' own code.
_RECORDINGS = 1 * GIB
# Two encoders reading the longest recording, layers of 64 channels at 24 kHz for 30 s, and 64 frames of the codec.
_ENCODING = 1 * GIB
# What the allocator loses between blocks, and other processes may take.
_KEPT_FREE = 0.05


@dataclass(frozen=True)
class SlotMemory:
    """What one slot takes: keys of the talker and of the predictor, the codec's state, text, and what a step needs."""

    keys: int
    frame_keys: int
    codec: int
    text: int
    sampling: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(astuple(self))


@dataclass(frozen=True)
class Budget:
    """Memory of a device with its weights loaded: free, and set apart for all but slots."""

    free: int
    apart: int

    @property
    def for_slots(self) -> int:
        """What slots may take."""
        return max(0, int(self.free * (1 - _KEPT_FREE)) - self.apart)


def positions_per_slot(config: EngineConfig) -> int:
    """Key/value positions of a slot, in whole blocks.

    Two more than the longest generation has: one for a step launched before the end was seen, one for what an empty
    row writes at the position it was left with.
    """
    return -(-(config.max_length + 2) // BLOCK) * BLOCK


def text_per_slot(config: EngineConfig) -> int:
    """Text ids of a slot: a transcript longer than its recording, a whole live text, its end, and the padding."""
    return config.max_reference_text_tokens + config.max_text_tokens + 2


def slot_memory(model: ModelConfig, config: EngineConfig, *, codec: int, width: int) -> SlotMemory:
    """What one slot takes. codec: of the codec's state. width: of a number of the talker and the predictor."""
    return SlotMemory(
        keys=positions_per_slot(config) * _position(model.talker, width),
        frame_keys=CODEBOOKS * _position(model.predictor, width),
        codec=codec,
        text=8 * text_per_slot(config),
        sampling=model.vocab,
        working=_WORKING_PER_SLOT,
    )


def set_apart(model: ModelConfig, config: EngineConfig, *, width: int) -> int:
    """What must stay free beside the slots: caches, who is set aside, prompts being read, recordings, voices being
    encoded."""
    caches = config.prefix_cache_bytes + config.parked_bytes + (config.voice_cache_bytes if model.type == "base" else 0)
    # Keys and values of a pack, its mask, and the widest layer: gate, up, their product, and the inputs twice.
    widest = width * (3 * model.talker.intermediate + 2 * model.talker.hidden)
    pack = PACK_POSITIONS * (_position(model.talker, width) + widest + 5 * PACK_POSITIONS)
    return caches + pack + _RECORDINGS + (_ENCODING if model.type == "base" else 0)


def fit_slots(config: EngineConfig, slot: SlotMemory, budget: Budget) -> int:
    """How many slots there shall be: those asked for, or as many as fit up to config.max_slots.

    Raises LoadError naming need, room and the greatest number that fits.
    """
    most = budget.for_slots // slot.total
    if config.slots > most or most == 0:
        wanted = config.slots or 1
        raise LoadError(
            f"{wanted} slots need {wanted * slot.total / GIB:.2f} GiB, and {budget.for_slots / GIB:.2f} GiB are left "
            f"for slots of {budget.free / GIB:.2f} GiB free; the most that fit are {most}. "
            f"A slot takes {slot.total / MIB:.0f} MiB; a smaller max_frames makes it smaller"
        )
    return config.slots or min(most, config.max_slots)


def in_words(config: EngineConfig, slot: SlotMemory, budget: Budget, slots: int) -> str:
    """What was decided and why, in one line for the log."""
    why = "as asked for" if config.slots else "as many as fit" if slots < config.max_slots else "the most allowed"
    return (
        f"{slots} slots, {why}: {budget.free / GIB:.2f} GiB free, {budget.apart / GIB:.2f} GiB set apart, "
        f"{slot.total / MIB:.0f} MiB a slot ({slot.keys / MIB:.0f} of them keys and values); "
        f"{2 * slots} slots would need {max(0, 2 * slots * slot.total - budget.for_slots) / GIB:.2f} GiB more"
    )


def _position(stack: TransformerConfig, width: int) -> int:
    """Keys and values of one position."""
    return 2 * stack.layers * stack.kv_heads * stack.head_dim * width
