"""Matrix products with a fixed weight, laid out once for the processor that will read it again and again.

On a CPU, oneDNN's own layout of a weight ("packed") is what makes a product of few rows run at the speed of memory:
an unpacked weight is read two to three times slower, or is laid out anew at every call. Elsewhere, and in float64,
which oneDNN does not know, the weight stays as it is. Knows nothing of what is multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..weights import Weights

# oneDNN's bfloat16 products need at least these instructions.
PACKED = {torch.float32} | ({torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set())


@dataclass(frozen=True)
class Linear:
    """y = x · Wᵀ + b. weight (out, in), opaque where it is packed; bias (out,) or absent."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """A product with `weight` (out, in), which is packed where that helps."""
        if weight.device.type == "cpu" and weight.dtype in PACKED:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        return cls(weight, bias)

    @classmethod
    def load(cls, weights: Weights, prefix: str, outgoing: int, incoming: int) -> Self:
        """Take `prefix`.{weight,bias}."""
        return cls.of(weights.take(f"{prefix}.weight", outgoing, incoming), weights.take(f"{prefix}.bias", outgoing))

    @classmethod
    def stacked(cls, weights: Sequence[Tensor]) -> Self:
        """Several products of the same input as one: their outputs side by side."""
        return cls.of(torch.cat(tuple(weights)))

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        if self.weight.is_mkldnn:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return out
        return F.linear(x, self.weight, self.bias)
