"""Where the networks run and how precisely: names from the environment to torch's device and dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import SettingsError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


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
    """`auto` is bfloat16 on a GPU and float32 on a CPU.

    Raises SettingsError for an unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise SettingsError(f"dtype must be auto, {', '.join(_DTYPES)}, got {name!r}")
    return _DTYPES[name]


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
