"""What this device does at best, measured: memory bandwidth and the rate of matrix products.

The best of a few runs, not their median: a floor must lie below everything the device can do.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks.floors import Rates
from benchmarks.timing import timed

_REPEATS = 7


@dataclass(frozen=True)
class DeviceRates:
    """Bytes/s of copying (read and written bytes both count) and of reading alone; operations/s by dtype."""

    copy: float
    read: float
    compute: dict[torch.dtype, float]

    @classmethod
    def measure(cls, device: torch.device, dtypes: set[torch.dtype], *, brief: bool = False) -> DeviceRates:
        """Measure a device. brief: with small tensors, for trying out the benchmark itself."""
        values, side = _sizes(device, brief)
        source, target = torch.ones(values, device=device), torch.empty(values, device=device)
        matrix, vector = source.view(-1, 4_096), torch.ones(4_096, device=device)
        copied = timed(lambda: target.copy_(source), device, repeats=_REPEATS)
        read = (timed(source.sum, device, repeats=_REPEATS), timed(lambda: matrix @ vector, device, repeats=_REPEATS))
        return cls(
            copy=2 * source.nbytes / copied.best,
            read=source.nbytes / min(reading.best for reading in read),
            compute={dtype: _matrix_rate(device, dtype, side) for dtype in dtypes},
        )

    def best(self, other: DeviceRates) -> DeviceRates:
        """The better of two measurements of one device."""
        compute = {dtype: max(rate, other.compute[dtype]) for dtype, rate in self.compute.items()}
        return DeviceRates(max(self.copy, other.copy), max(self.read, other.read), compute)

    def of(self, dtype: torch.dtype) -> Rates:
        """The rates that floors of work in `dtype` are made with; weights are read, so reading counts."""
        return Rates(max(self.copy, self.read), self.compute[dtype])

    def described(self) -> dict[str, object]:
        """The rates as settings of a result."""
        shown = {f"tflops_{str(dtype).removeprefix('torch.')}": rate / 1e12 for dtype, rate in self.compute.items()}
        return {"copy_gb_per_s": self.copy / 1e9, "read_gb_per_s": self.read / 1e9, **shown}


def _sizes(device: torch.device, brief: bool) -> tuple[int, int]:
    """How many float32 values to move, well beyond any cache, and the side of the matrices."""
    if brief:
        return 1 << 22, 512
    return (1 << 28, 8_192) if device.type == "cuda" else (1 << 27, 2_048)


def _matrix_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    best = timed(lambda: torch.mm(left, right, out=product), device, repeats=_REPEATS).best
    # The same as a convolution: a GPU may be allowed TF32 there alone, and on some CPUs another library makes it, at
    # twice the rate.
    kernel = right[..., None]
    with suppress(RuntimeError):  # a library may have none of this size; then the product's rate stands alone
        best = min(best, timed(lambda: F.conv1d(left[None], kernel), device, repeats=_REPEATS).best)
    return 2 * side**3 / best
