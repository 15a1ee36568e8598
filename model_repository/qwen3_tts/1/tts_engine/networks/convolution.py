"""A convolution over time as a matrix product, where that is faster, and else the library's.

Channels stand beside each other, (B, T, C): a window of the input is then a view of it, and what a convolution does
to a window is one product with a weight that can be packed (linear.py). Knows no state and no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear import PACKED, Linear

# On a CPU a weight of more numbers than this is met by few samples a frame: its windows are small and it is large.
_FEW_SAMPLES = 1 << 21
# Windows that overlap with gaps are copied, as much at a time as stays in a cache.
_WINDOW_BYTES = 1 << 21


@dataclass(frozen=True)
class Convolution:
    """Weights of a convolution without padding: either a product over windows, or planes (C', C, 1, kernel).

    What it multiplies, and what comes of it, is of the weights' dtype.
    """

    product: Linear | None
    planes: Tensor | None
    bias: Tensor
    kernel: int
    dilation: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, dilation: int) -> Self:
        """weight (C', C, kernel), bias (C',)."""
        outgoing, _, kernel = weight.shape
        on_cpu = weight.device.type == "cpu"
        if kernel == 1 or (on_cpu and (weight.numel() > _FEW_SAMPLES or weight.dtype not in PACKED)):
            product = Linear.of(weight.permute(0, 2, 1).reshape(outgoing, -1), bias)
            return cls(product, None, bias, kernel, dilation)
        planes = weight[:, :, None].contiguous(memory_format=torch.channels_last)
        if on_cpu:
            planes = torch.ops.mkldnn._reorder_convolution_weight(planes, [0, 0], [1, 1], [1, dilation])
        return cls(None, planes, bias, kernel, dilation)

    @property
    def dtype(self) -> torch.dtype:
        """Of inputs and outputs."""
        return self.bias.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """(B, (kernel-1)·dilation + T, C), contiguous → (B, T, C'), contiguous."""
        if self.planes is not None:
            return self._over_planes(x, self.planes)
        assert self.product is not None, "a convolution has one of the two"
        return self.product(x) if self.kernel == 1 else self._over_windows(x, self.product)

    @property
    def adds_bias_apart(self) -> bool:
        """Whether the library adds the bias after the product, in a launch of its own, as a GPU's does."""
        return self.planes is not None and not self.planes.is_mkldnn

    def unbiased(self, x: Tensor) -> Tensor:
        """The same without the bias, where that is added apart."""
        assert self.planes is not None, "a product adds its bias itself"
        return self._over_planes(x, self.planes, biased=False)

    def _over_planes(self, x: Tensor, planes: Tensor, *, biased: bool = True) -> Tensor:
        """The library's convolution on the same memory: one row of pixels, channels last."""
        pixels = x.transpose(1, 2)[:, :, None]
        if planes.is_mkldnn:
            step, dilation = [1, 1], [1, self.dilation]
            out = torch.ops.mkldnn._convolution_pointwise(
                pixels, planes, self.bias, [0, 0], step, dilation, 1, "none", [], ""
            )
        else:
            out = F.conv2d(pixels, planes, self.bias if biased else None, dilation=(1, self.dilation))
        return out[:, :, 0].transpose(1, 2).contiguous()

    def _over_windows(self, x: Tensor, product: Linear) -> Tensor:
        rows, length, channels = x.shape
        tokens = length - (self.kernel - 1) * self.dilation
        step = (x.stride(0), channels, self.dilation * channels, 1)
        windows = x.as_strided((rows, tokens, self.kernel, channels), step)
        block = max(1, _WINDOW_BYTES // (self.kernel * channels * x.element_size()))
        if rows * tokens <= block:
            return product(windows.flatten(2))
        pieces = [product(piece.flatten(1)) for row in windows for piece in row.split(block)]
        return torch.cat(pieces).view(rows, tokens, -1)
