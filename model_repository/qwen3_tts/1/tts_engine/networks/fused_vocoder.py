"""What the codec does behind its transformer where kernels are in use: the layers of codec_layers.py in fewer launches.

Sums along the network are put off: a layer hands on what it was given and what is to be added, and the next kernel adds
them on its way. A convolution's bias is added by the activation behind it, where the library would take a launch more.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor

from .codec_layers import CausalConv, CausalUpsample, ConvNeXt, ResidualUnit, SnakeBeta, Streams, VocoderBlock


def convolved(fused: ModuleType, layer: CausalConv, x: Tensor, streams: Streams, added: Tensor | None = None) -> Tensor:
    """A causal convolution of x, or of x + added, (B, T, C)."""
    assert layer.tail is not None, "a convolution of one sample keeps nothing"
    _, joined = fused.joined(x, streams.tails[layer.tail], streams.targets, added=added)
    return layer.convolution(joined)


def raised(
    fused: ModuleType, stages: Sequence[tuple[CausalUpsample, ConvNeXt]], x: Tensor, streams: Streams
) -> tuple[Tensor, Tensor | None]:
    """The up-sampling between transformer and vocoder; gives a sum in two parts."""
    added = None
    for upsample, mix in stages:
        x, added = upsampled(fused, upsample, x if added is None else x + added, streams), None
        norm, layer = (mix.norm, mix.norm_bias), mix.depthwise
        tail = streams.tails[layer.tail]
        normed = fused.depthwise_normed(x, layer.weight, layer.bias, norm, tail, streams.targets, mix.eps)
        added = mix.narrow(F.gelu(mix.widen(normed)))
    return x, added


def upsampled(fused: ModuleType, layer: CausalUpsample, x: Tensor, streams: Streams) -> Tensor:
    """(B, T, C) → (B, T·stride, C')."""
    out = layer.product(x)
    if layer.tail is not None:
        out = fused.overlapped(out, streams.tails[layer.tail].flatten(1), streams.targets)
    return out.view(x.shape[0], x.shape[1] * layer.stride, -1)


def vocoded(
    fused: ModuleType, blocks: Sequence[VocoderBlock], x: Tensor, streams: Streams
) -> tuple[Tensor, Tensor | None]:
    """The vocoder's blocks; gives a sum in two parts."""
    added = None
    for block in blocks:
        first = block.activation
        x, added = upsampled(fused, block.upsample, _wave(fused, first, x, added), streams), None
        for unit in block.units:
            x, added = _unit(fused, unit, x, added, streams)
    return x, added


def activated_exit(
    fused: ModuleType, activation: SnakeBeta, layer: CausalConv, x: Tensor, added: Tensor | None, streams: Streams
) -> Tensor:
    """The last convolution, of the activation of x + added: (B, T, 1)."""
    assert layer.tail is not None, "a convolution of one sample keeps nothing"
    wave = (activation.alpha, activation.root)
    _, joined = fused.joined(x, streams.tails[layer.tail], streams.targets, added=added, wave=wave)
    return layer.convolution(joined)


def _unit(
    fused: ModuleType, unit: ResidualUnit, x: Tensor, added: Tensor | None, streams: Streams
) -> tuple[Tensor, Tensor]:
    dilated, between = unit.dilated, unit.between
    assert dilated.tail is not None, "a dilated convolution keeps what it looks back to"
    wave = (unit.before.alpha, unit.before.root)
    total, joined = fused.joined(x, streams.tails[dilated.tail], streams.targets, added=added, wave=wave)
    convolution, bias = dilated.convolution, None
    if convolution.adds_bias_apart:
        made, bias = convolution.unbiased(joined), convolution.bias
    else:
        made = convolution(joined)
    heard = fused.snake_beta(made, between.alpha, between.root, bias=bias)
    return total, unit.pointwise.convolution(heard)


def _wave(fused: ModuleType, layer: SnakeBeta, x: Tensor, added: Tensor | None) -> Tensor:
    made: Tensor = fused.snake_beta(x, layer.alpha, layer.root, added=added)
    return made
