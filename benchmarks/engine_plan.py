"""Which sizes the engine's benchmark measures, how often, and which of them fit in memory."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.floors import position_bytes
from tts_engine.checkpoint import Checkpoint

# Beside keys and values: weights, the codec's state, activations, graphs.
_SHARE_FOR_KEYS = 0.6


@dataclass(frozen=True)
class Plan:
    """What is measured. brief: with sizes that tell nothing of the device."""

    device: torch.device
    dtype: torch.dtype
    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    prefill_batches: tuple[int, ...]
    bursts: tuple[int, ...]
    context: int
    repeats: int
    warm_up: int
    brief: bool

    @property
    def longest(self) -> int:
        """The longest prompt."""
        return max(self.context, *self.lengths)

    def described(self) -> dict[str, object]:
        """The plan as settings of a result."""
        return {
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "context": self.context,
            "repeats": self.repeats,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
        }


def plan_of(options: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> Plan:
    """The plan the options ask for. Raises ValueError for a batch that is no positive number."""
    gpu = device.type == "cuda"
    if options.smoke:
        batches, lengths, many, bursts, repeats = (1, 2), (16, 32), (2,), (1, 2), 2
    elif gpu:
        batches, lengths, many = (1, 2, 4, 8, 16, 32, 64, 128, 256), (16, 64, 200, 500), (1, 8)
        bursts, repeats = (1, 8, 32), 20 if options.quick else 50
    elif options.quick:
        batches, lengths, many, bursts, repeats = (1, 4, 8), (32, 200), (1,), (1, 4), 3
    else:
        batches, lengths, many, bursts, repeats = (1, 2, 4, 8, 16, 32), (16, 64, 200), (1, 4), (1, 4, 8), 7
    return Plan(
        device=device,
        dtype=dtype,
        batches=_numbers(options.batches) if options.batches is not None else batches,
        lengths=lengths,
        prefill_batches=many,
        bursts=bursts,
        context=options.context or (32 if options.smoke else 200),
        repeats=options.repeats or repeats,
        warm_up=10 if gpu else 1,
        brief=options.smoke,
    )


def fitting(plan: Plan, checkpoint: Checkpoint, length: int) -> tuple[int, ...]:
    """The batches of the plan whose keys and values, `length` positions each, have room in memory; at least one."""
    each = length * position_bytes(checkpoint.model.talker, plan.dtype.itemsize)
    room = _SHARE_FOR_KEYS * _free_bytes(plan.device)
    batches = sorted(plan.batches)
    return tuple(batch for batch in batches if batch * each <= room) or (batches[0],)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    [available] = [line for line in lines if line.startswith("MemAvailable:")]
    return int(available.split()[1]) * 1024


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise ValueError(f"a batch must be at least 1, got {min(numbers)}")
    return numbers
