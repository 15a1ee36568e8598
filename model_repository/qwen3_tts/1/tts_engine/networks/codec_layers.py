"""Causal layers of the codec that remember what they need of earlier calls, so that any split of a stream into
calls gives the same sound.

Samples stand in rows and channels beside each other, (B, T, C), so that a convolution is one matrix product over a
sliding view of its input. Each stateful layer names the state it keeps by an index into the tails of a `Streams`; a
call works on the first B streams and updates them in place, but for those that are held.

Mixed precision, for a CPU: the dilated convolutions, seven tenths of all arithmetic, multiply bfloat16, and sines are
taken of float16; sums along the network, activations and all other products stay as precise as they are without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import kernels
from ..weights import Weights
from .convolution import Convolution
from .layers import gained
from .linear import Linear

_LARGEST_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Streams:
    """The remembered inputs of all layers for S streams, and where a call writes them.

    tails: tensors (S+1, n, C), the last row for what nobody wants. targets int64 (B,): the row that stream b's new
    state goes to, b itself or, for a stream that is held, the last.
    """

    tails: list[Tensor]
    targets: Tensor

    def join(self, index: int, x: Tensor) -> Tensor:
        """x (B, T, C) behind what is remembered of it, (B, n+T, C); the new end is remembered.

        A tail may be of a wider dtype than x, whose numbers it then holds as they are.
        """
        tail = self.tails[index]
        joined = torch.cat((tail[: x.shape[0]].to(x.dtype), x), dim=1)
        tail.index_copy_(0, self.targets, joined[:, -tail.shape[1] :].to(tail.dtype))
        return joined


class TailShapes:
    """Collects, while a network is loaded, the (n, C) of every state tensor its layers will want."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def add(self, length: int, channels: int) -> int:
        """Reserve a state tensor; returns its index."""
        self.shapes.append((length, channels))
        return len(self.shapes) - 1


@dataclass(frozen=True)
class CausalConv:
    """Convolution that looks only back; keeps its last (kernel-1)·dilation inputs, if that is any."""

    convolution: Convolution
    tail: int | None

    @classmethod
    def load(
        cls,
        weights: Weights,
        prefix: str,
        shapes: TailShapes,
        channels: tuple[int, int],
        kernel: int,
        *,
        dilation: int = 1,
        products: torch.dtype | None = None,
    ) -> CausalConv:
        """Take `prefix`.conv.{weight,bias} of a convolution from channels[0] to channels[1].

        products: what is multiplied, if that is not of the weights' own dtype.
        """
        incoming, outgoing = channels
        weight = weights.take(f"{prefix}.conv.weight", outgoing, incoming, kernel)
        bias, dtype = weights.take(f"{prefix}.conv.bias", outgoing), products or weight.dtype
        return cls(
            convolution=Convolution.of(weight.to(dtype), bias.to(dtype), dilation),
            tail=shapes.add((kernel - 1) * dilation, incoming) if kernel > 1 else None,
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, T, C) → (B, T, C')."""
        narrow = x.to(self.convolution.dtype)
        joined = narrow if self.tail is None else streams.join(self.tail, narrow)
        return self.convolution(joined).to(x.dtype)


@dataclass(frozen=True)
class CausalDepthwise:
    """Convolution of each channel by itself that looks only back. weight (kernel, C)."""

    weight: Tensor
    bias: Tensor
    tail: int

    @classmethod
    def load(cls, weights: Weights, prefix: str, shapes: TailShapes, channels: int, kernel: int) -> CausalDepthwise:
        """Take `prefix`.conv.{weight,bias}."""
        weight = weights.take(f"{prefix}.conv.weight", channels, 1, kernel)
        bias = weights.take(f"{prefix}.conv.bias", channels)
        return cls(weight[:, 0].T.contiguous(), bias, shapes.add(kernel - 1, channels))

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        windows = streams.join(self.tail, x).unfold(1, self.weight.shape[0], 1)
        return torch.einsum("btck,kc->btc", windows, self.weight) + self.bias


@dataclass(frozen=True)
class CausalUpsample:
    """Transposed convolution trimmed on the right.

    With a kernel of twice the stride each output is the first half of its own input's product and the second half of
    the input's before: `tail` keeps the last second half. With a kernel of one stride there is none. The product's bias
    is the convolution's for each first half.
    """

    product: Linear
    stride: int
    tail: int | None

    @classmethod
    def load(
        cls,
        weights: Weights,
        prefix: str,
        shapes: TailShapes,
        channels: tuple[int, int],
        kernel: int,
        stride: int,
    ) -> CausalUpsample:
        """Take `prefix`.conv.{weight,bias}; kernel is stride (no overlap) or twice stride."""
        incoming, outgoing = channels
        weight = weights.take(f"{prefix}.conv.weight", incoming, outgoing, kernel)
        once = weights.take(f"{prefix}.conv.bias", outgoing).repeat(stride)
        bias = torch.cat((once, once.new_zeros(kernel * outgoing - once.shape[0])))
        return cls(
            product=Linear.of(weight.permute(2, 1, 0).reshape(kernel * outgoing, incoming), bias),
            stride=stride,
            tail=shapes.add(1, stride * outgoing) if kernel > stride else None,
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, T, C) → (B, T·stride, C')."""
        out = self.product(x)
        if self.tail is not None:
            own, late = out.chunk(2, dim=-1)
            out = own + streams.join(self.tail, late)[:, :-1]
        return out.reshape(x.shape[0], x.shape[1] * self.stride, -1)


@dataclass(frozen=True)
class SnakeBeta:
    """The periodic activation x + sin²(αx)/β, per channel (arXiv 2206.04658 with a separate magnitude).

    root: 1/√β, so that the square is the last thing to be done. mixed: sines of float16, which take a CPU a third of
    the time; they are off by up to 2^-11 of the angle, eight times less than bfloat16 would be.
    """

    alpha: Tensor
    root: Tensor
    mixed: bool

    @classmethod
    def load(cls, weights: Weights, prefix: str, channels: int, *, mixed: bool) -> SnakeBeta:
        """Take `prefix`.{alpha,beta}, which are stored as logarithms."""
        alpha, beta = weights.take(f"{prefix}.alpha", channels), weights.take(f"{prefix}.beta", channels)
        return cls(alpha.exp(), (beta.exp() + 1e-9).rsqrt(), mixed)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        fused = kernels.chosen()
        if fused is not None:
            return fused.snake_beta(x, self.alpha, self.root)
        # In place, since on a CPU this is all memory traffic.
        angle = x * self.alpha
        if self.mixed:
            # An angle that float16 cannot hold would be infinite, and its sine no number.
            wave = angle.half().clamp_(-_LARGEST_HALF, _LARGEST_HALF).sin_().to(x.dtype).mul_(self.root)
        else:
            wave = angle.sin_().mul_(self.root)
        return torch.addcmul(x, wave, wave, out=wave)


@dataclass(frozen=True)
class ConvNeXt:
    """Depthwise causal convolution and a pointwise feed-forward, whose learned gain is folded into its last product."""

    depthwise: CausalDepthwise
    norm: Tensor
    norm_bias: Tensor
    widen: Linear
    narrow: Linear
    eps: float = 1e-6

    @classmethod
    def load(cls, weights: Weights, prefix: str, shapes: TailShapes, channels: int) -> ConvNeXt:
        """Take the tensors under `prefix`."""
        wide, gain = 4 * channels, weights.take(f"{prefix}.gamma", channels)
        narrow = weights.take(f"{prefix}.pwconv2.weight", channels, wide)
        return cls(
            depthwise=CausalDepthwise.load(weights, f"{prefix}.dwconv", shapes, channels, 7),
            norm=weights.take(f"{prefix}.norm.weight", channels),
            norm_bias=weights.take(f"{prefix}.norm.bias", channels),
            widen=Linear.load(weights, f"{prefix}.pwconv1", wide, channels),
            narrow=Linear.of(gained(narrow, gain), gained(weights.take(f"{prefix}.pwconv2.bias", channels), gain)),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        hidden = self.depthwise(x, streams)
        hidden = F.layer_norm(hidden, self.norm.shape, self.norm, self.norm_bias, self.eps)
        return x + self.narrow(F.gelu(self.widen(hidden)))


@dataclass(frozen=True)
class ResidualUnit:
    """Activation, dilated convolution, activation, pointwise convolution, added to the input."""

    before: SnakeBeta
    dilated: CausalConv
    between: SnakeBeta
    pointwise: CausalConv

    @classmethod
    def load(
        cls, weights: Weights, prefix: str, shapes: TailShapes, channels: int, dilation: int, *, mixed: bool
    ) -> ResidualUnit:
        """Take the tensors under `prefix`."""
        both, products = (channels, channels), torch.bfloat16 if mixed else None
        return cls(
            before=SnakeBeta.load(weights, f"{prefix}.act1", channels, mixed=mixed),
            dilated=CausalConv.load(weights, f"{prefix}.conv1", shapes, both, 7, dilation=dilation, products=products),
            between=SnakeBeta.load(weights, f"{prefix}.act2", channels, mixed=mixed),
            pointwise=CausalConv.load(weights, f"{prefix}.conv2", shapes, both, 1),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        return x + self.pointwise(self.between(self.dilated(self.before(x), streams)), streams)


@dataclass(frozen=True)
class VocoderBlock:
    """Up-sampling by one rate, halving the channels, then residual units of dilation 1, 3 and 9."""

    activation: SnakeBeta
    upsample: CausalUpsample
    units: tuple[ResidualUnit, ...]

    @classmethod
    def load(
        cls, weights: Weights, prefix: str, shapes: TailShapes, channels: int, rate: int, *, mixed: bool
    ) -> VocoderBlock:
        """Take the tensors under `prefix`.block."""
        half = channels // 2
        return cls(
            activation=SnakeBeta.load(weights, f"{prefix}.block.0", channels, mixed=mixed),
            upsample=CausalUpsample.load(weights, f"{prefix}.block.1", shapes, (channels, half), 2 * rate, rate),
            units=tuple(
                ResidualUnit.load(weights, f"{prefix}.block.{2 + i}", shapes, half, dilation, mixed=mixed)
                for i, dilation in enumerate((1, 3, 9))
            ),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, T, C) → (B, T·rate, C/2)."""
        x = self.upsample(self.activation(x), streams)
        for unit in self.units:
            x = unit(x, streams)
        return x
