"""Which sizes the engine's benchmark measures, how often, and which of them fit in memory."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.floors import position_bytes
from tts_engine import Acceleration
from tts_engine.checkpoint import Checkpoint

# Beside keys and values: weights, the codec's state, activations, graphs.
_SHARE_FOR_KEYS = 0.6


@dataclass(frozen=True)
class Plan:
    """What is measured. acceleration: as a server has it. brief: with sizes that tell nothing of the device."""

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
    acceleration: Acceleration

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
            "kernels": self.acceleration.kernels,
            "tf32": self.acceleration.tf32,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
        }


@dataclass(frozen=True)
class _Sizes:
    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    prefill_batches: tuple[int, ...]
    bursts: tuple[int, ...]
    repeats: int
    context: int = 200


_SMOKE = _Sizes((1, 2), (16, 32), (2,), (1, 2), repeats=2, context=32)
_CPU = _Sizes((1, 2, 4, 8, 16, 32), (16, 64, 200), (1, 4), (1, 4, 8), repeats=7)
_QUICK_CPU = _Sizes((1, 4, 8), (32, 200), (1,), (1, 4), repeats=3)
_GPU = _Sizes((1, 2, 4, 8, 16, 32, 64, 128, 256), (16, 64, 200, 500), (1, 8), (1, 8, 32), repeats=50)
_QUICK_GPU = replace(_GPU, repeats=20)


def plan_of(options: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> Plan:
    """The plan the options ask for. Raises ValueError for a batch that is no positive number."""
    gpu = device.type == "cuda"
    usual, quick = (_GPU, _QUICK_GPU) if gpu else (_CPU, _QUICK_CPU)
    sizes = _SMOKE if options.smoke else quick if options.quick else usual
    return Plan(
        device=device,
        dtype=dtype,
        batches=_numbers(options.batches) if options.batches is not None else sizes.batches,
        lengths=sizes.lengths,
        prefill_batches=sizes.prefill_batches,
        bursts=sizes.bursts,
        context=options.context or sizes.context,
        repeats=options.repeats or sizes.repeats,
        warm_up=10 if gpu else 1,
        brief=options.smoke,
        acceleration=Acceleration(options.kernels, options.tf32),
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
