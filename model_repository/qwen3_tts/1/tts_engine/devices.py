"""Where the networks run and how precisely: names from the environment to torch's device and dtype."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .errors import SettingsError
from .threads import threads_named, usable_cores

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True)
class Placement:
    """Where the networks run and how precisely. threads: of this process, on a CPU; None elsewhere."""

    device: torch.device
    dtype: torch.dtype
    threads: int | None

    @classmethod
    def named(cls, device: str, dtype: str, threads: str) -> Self:
        """From names; on a CPU the number of threads takes effect at once, and large pages for all that is made later.

        device: `auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:N`. dtype: `auto` (bfloat16 where the
        device has it, else float32), `float32`, `bfloat16` or `float64`. threads: `auto` or a number. Raises
        SettingsError.
        """
        place = device_named(device)
        count = threads_named(threads, usable_cores()) if place.type == "cpu" else None
        if count is not None:
            torch.set_num_threads(count)
            # Products read all weights each step, and take a twentieth less where these lie in pages of 2 MB instead of
            # 4 kB. torch asks for this once, when it makes its first tensor.
            os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        return cls(place, dtype_named(dtype, place), count)

    @property
    def description(self) -> dict[str, object]:
        """For `describe`."""
        where: dict[str, object] = {"device": str(self.device), "dtype": str(self.dtype).removeprefix("torch.")}
        return where if self.threads is None else where | {"threads": self.threads}


def device_named(name: str) -> torch.device:
    """`auto` is the first GPU, else the CPU.

    Raises SettingsError for an unknown name and for a GPU this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"device {name!r} was asked for, but this machine has {torch.cuda.device_count()} GPUs")
    return device


def dtype_named(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device multiplies it natively, on any GPU and on some CPUs, and float32 elsewhere.

    Raises SettingsError for an unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" or cpu_has_bfloat16() else torch.float32
    if name not in _DTYPES:
        raise SettingsError(f"dtype must be auto, {', '.join(_DTYPES)}, got {name!r}")
    return _DTYPES[name]


def codec_is_mixed(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the codec multiplies in bfloat16 what it can: `auto` is where talker and predictor (dtype) do, on a CPU.

    Raises SettingsError for `bfloat16` on a GPU, where TF32 is the precise way to be fast, and in float64.
    """
    if name == "bfloat16" and (device.type != "cpu" or dtype == torch.float64):
        raise SettingsError(f"codec_precision bfloat16 is for a CPU in float32 or bfloat16, not {device} and {dtype}")
    return name == "bfloat16" or (name == "auto" and device.type == "cpu" and dtype == torch.bfloat16)


def cpu_has_bfloat16() -> bool:
    """Whether this processor has instructions for products in bfloat16; without them float32 is the faster."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pinned(*shape: int, dtype: torch.dtype) -> Tensor:
    """Zeros on the host, in memory that a GPU copies from and to by itself."""
    return torch.zeros(shape, dtype=dtype, pin_memory=True)


def upload(values: Sequence[int], device: torch.device) -> Tensor:
    """Whole numbers as an int64 tensor on `device`, without waiting for what the device does.

    A copy from other than pinned memory would wait. The allocator of pinned memory gives none out again before the
    copies from it have been made.
    """
    host = torch.tensor(values, dtype=torch.int64)
    if device.type != "cuda" or not values:
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
