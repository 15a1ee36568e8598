"""Causal layers of the codec that remember what they need of earlier calls, so that any split of a stream into
calls gives the same sound.

Each stateful layer names the state it keeps by an index into the tails of a `Streams`; a call works on the first B
streams and updates them in place, but for those that are held.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import kernels
from ..weights import Weights


@dataclass(frozen=True)
class Streams:
    """The remembered inputs of all layers for S streams, and where a call writes them.

    tails: tensors (S+1, C, n), the last row for what nobody wants. targets int64 (B,): the row that stream b's new
    state goes to, b itself or, for a stream that is held, the last.
    """

    tails: list[Tensor]
    targets: Tensor

    def join(self, index: int, x: Tensor) -> Tensor:
        """x (B, C, T) behind what is remembered of it, (B, C, n+T); the new end is remembered."""
        tail = self.tails[index]
        joined = torch.cat((tail[: x.shape[0]], x), dim=-1)
        tail.index_copy_(0, self.targets, joined[..., -tail.shape[-1] :])
        return joined

    def overlap(self, index: int, x: Tensor, length: int) -> Tensor:
        """x (B, C, length+n) with what is remembered added to its start; its end is remembered and cut off."""
        tail = self.tails[index]
        x[..., : tail.shape[-1]] += tail[: x.shape[0]]
        tail.index_copy_(0, self.targets, x[..., length:])
        return x[..., :length]


class TailShapes:
    """Collects, while a network is loaded, the (C, n) of every state tensor its layers will want."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def add(self, channels: int, length: int) -> int:
        """Reserve a state tensor; returns its index."""
        self.shapes.append((channels, length))
        return len(self.shapes) - 1


@dataclass(frozen=True)
class CausalConv:
    """Convolution that looks only back; keeps its last (kernel-1)·dilation inputs."""

    weight: Tensor
    bias: Tensor
    dilation: int
    groups: int
    tail: int

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
        groups: int = 1,
    ) -> CausalConv:
        """Take `prefix`.conv.{weight,bias} of a convolution from channels[0] to channels[1]."""
        incoming, outgoing = channels
        return cls(
            weight=weights.take(f"{prefix}.conv.weight", outgoing, incoming // groups, kernel),
            bias=weights.take(f"{prefix}.conv.bias", outgoing),
            dilation=dilation,
            groups=groups,
            tail=shapes.add(incoming, (kernel - 1) * dilation),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, C, T) → (B, C', T)."""
        if self.weight.shape[-1] > 1:
            x = streams.join(self.tail, x)
        return F.conv1d(x, self.weight, self.bias, dilation=self.dilation, groups=self.groups)


@dataclass(frozen=True)
class CausalUpsample:
    """Transposed convolution trimmed on the right; keeps the part of its output that the next input adds to."""

    weight: Tensor
    bias: Tensor
    stride: int
    tail: int

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
        return cls(
            weight=weights.take(f"{prefix}.conv.weight", incoming, outgoing, kernel),
            bias=weights.take(f"{prefix}.conv.bias", outgoing),
            stride=stride,
            tail=shapes.add(outgoing, kernel - stride),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, C, T) → (B, C', T·stride)."""
        out = F.conv_transpose1d(x, self.weight, stride=self.stride)
        if self.weight.shape[-1] > self.stride:
            out = streams.overlap(self.tail, out, x.shape[-1] * self.stride)
        return out + self.bias[:, None]


@dataclass(frozen=True)
class SnakeBeta:
    """The periodic activation x + sin²(αx)/β, per channel (arXiv 2206.04658 with a separate magnitude)."""

    alpha: Tensor
    scale: Tensor

    @classmethod
    def load(cls, weights: Weights, prefix: str, channels: int) -> SnakeBeta:
        """Take `prefix`.{alpha,beta}, which are stored as logarithms."""
        alpha, beta = weights.take(f"{prefix}.alpha", channels), weights.take(f"{prefix}.beta", channels)
        return cls(alpha.exp()[:, None], 1.0 / (beta.exp() + 1e-9)[:, None])

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, T) → (B, C, T)."""
        fused = kernels.chosen()
        if fused is not None:
            return fused.snake_beta(x, self.alpha, self.scale)
        return x + self.scale * torch.sin(x * self.alpha).square()


@dataclass(frozen=True)
class ConvNeXt:
    """Depthwise causal convolution and a pointwise feed-forward, with a learned residual gain."""

    depthwise: CausalConv
    norm: Tensor
    norm_bias: Tensor
    widen: Tensor
    widen_bias: Tensor
    narrow: Tensor
    narrow_bias: Tensor
    gain: Tensor

    @classmethod
    def load(cls, weights: Weights, prefix: str, shapes: TailShapes, channels: int) -> ConvNeXt:
        """Take the tensors under `prefix`."""
        return cls(
            depthwise=CausalConv.load(weights, f"{prefix}.dwconv", shapes, (channels, channels), 7, groups=channels),
            norm=weights.take(f"{prefix}.norm.weight", channels),
            norm_bias=weights.take(f"{prefix}.norm.bias", channels),
            widen=weights.take(f"{prefix}.pwconv1.weight", 4 * channels, channels),
            widen_bias=weights.take(f"{prefix}.pwconv1.bias", 4 * channels),
            narrow=weights.take(f"{prefix}.pwconv2.weight", channels, 4 * channels),
            narrow_bias=weights.take(f"{prefix}.pwconv2.bias", channels),
            gain=weights.take(f"{prefix}.gamma", channels),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, C, T) → (B, C, T)."""
        hidden = self.depthwise(x, streams).transpose(1, 2)
        hidden = F.layer_norm(hidden, self.norm.shape, self.norm, self.norm_bias, 1e-6)
        hidden = F.gelu(F.linear(hidden, self.widen, self.widen_bias))
        hidden = self.gain * F.linear(hidden, self.narrow, self.narrow_bias)
        return x + hidden.transpose(1, 2)


@dataclass(frozen=True)
class ResidualUnit:
    """Activation, dilated convolution, activation, pointwise convolution, added to the input."""

    before: SnakeBeta
    dilated: CausalConv
    between: SnakeBeta
    pointwise: CausalConv

    @classmethod
    def load(cls, weights: Weights, prefix: str, shapes: TailShapes, channels: int, dilation: int) -> ResidualUnit:
        """Take the tensors under `prefix`."""
        both = (channels, channels)
        return cls(
            before=SnakeBeta.load(weights, f"{prefix}.act1", channels),
            dilated=CausalConv.load(weights, f"{prefix}.conv1", shapes, both, 7, dilation=dilation),
            between=SnakeBeta.load(weights, f"{prefix}.act2", channels),
            pointwise=CausalConv.load(weights, f"{prefix}.conv2", shapes, both, 1),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, C, T) → (B, C, T)."""
        return x + self.pointwise(self.between(self.dilated(self.before(x), streams)), streams)


@dataclass(frozen=True)
class VocoderBlock:
    """Up-sampling by one rate, halving the channels, then residual units of dilation 1, 3 and 9."""

    activation: SnakeBeta
    upsample: CausalUpsample
    units: tuple[ResidualUnit, ...]

    @classmethod
    def load(cls, weights: Weights, prefix: str, shapes: TailShapes, channels: int, rate: int) -> VocoderBlock:
        """Take the tensors under `prefix`.block."""
        half = channels // 2
        return cls(
            activation=SnakeBeta.load(weights, f"{prefix}.block.0", channels),
            upsample=CausalUpsample.load(weights, f"{prefix}.block.1", shapes, (channels, half), 2 * rate, rate),
            units=tuple(
                ResidualUnit.load(weights, f"{prefix}.block.{2 + i}", shapes, half, dilation)
                for i, dilation in enumerate((1, 3, 9))
            ),
        )

    def __call__(self, x: Tensor, streams: Streams) -> Tensor:
        """(B, C, T) → (B, C/2, T·rate)."""
        x = self.upsample(self.activation(x), streams)
        for unit in self.units:
            x = unit(x, streams)
        return x
