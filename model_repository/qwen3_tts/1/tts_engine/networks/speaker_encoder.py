"""The speaker encoder: a mel spectrogram in, one vector that stands for a voice out. Run once per voice.

Source: ECAPA-TDNN (arXiv 2005.07143) without batch norms, as qwen-tts 0.1.1 builds it. All convolutions keep the
length, with reflected edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model_config import SpeakerEncoderConfig
from ..weights import Weights

_PREFIX = "speaker_encoder"


@dataclass(frozen=True)
class SameConv:
    """Convolution that keeps the length."""

    weight: Tensor
    bias: Tensor
    dilation: int = 1

    @classmethod
    def load(
        cls, weights: Weights, prefix: str, channels: tuple[int, int], kernel: int = 1, dilation: int = 1
    ) -> SameConv:
        """Take `prefix`.{weight,bias}."""
        weight = weights.take(f"{prefix}.weight", channels[1], channels[0], kernel)
        return cls(weight, weights.take(f"{prefix}.bias", channels[1]), dilation)

    def __call__(self, x: Tensor) -> Tensor:
        """(1, C, T) → (1, C', T)."""
        reach = (self.weight.shape[-1] - 1) * self.dilation
        if reach:
            x = F.pad(x, (reach // 2, reach - reach // 2), "reflect")
        return F.conv1d(x, self.weight, self.bias, dilation=self.dilation)


@dataclass(frozen=True)
class ResidualBlock:
    """Pointwise, multi-scale dilated and pointwise convolutions, weighed per channel by what the whole clip holds."""

    inward: SameConv
    scales: tuple[SameConv, ...]
    outward: SameConv
    squeeze: SameConv
    excite: SameConv

    @classmethod
    def load(cls, weights: Weights, index: int, config: SpeakerEncoderConfig) -> ResidualBlock:
        """Take block `index`."""
        prefix, wide = f"{_PREFIX}.blocks.{index}", config.channels[index]
        part, kernel, dilation = wide // config.scale, config.kernels[index], config.dilations[index]
        scales = tuple(
            SameConv.load(weights, f"{prefix}.res2net_block.blocks.{i}.conv", (part, part), kernel, dilation)
            for i in range(config.scale - 1)
        )
        return cls(
            inward=SameConv.load(weights, f"{prefix}.tdnn1.conv", (config.channels[index - 1], wide)),
            scales=scales,
            outward=SameConv.load(weights, f"{prefix}.tdnn2.conv", (wide, wide)),
            squeeze=SameConv.load(weights, f"{prefix}.se_block.conv1", (wide, config.squeeze)),
            excite=SameConv.load(weights, f"{prefix}.se_block.conv2", (config.squeeze, wide)),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(1, C, T) → (1, C, T)."""
        parts = torch.relu(self.inward(x)).chunk(len(self.scales) + 1, dim=1)
        made = [parts[0]]
        for index, conv in enumerate(self.scales):
            made.append(torch.relu(conv(parts[index + 1] if index == 0 else parts[index + 1] + made[-1])))
        hidden = torch.relu(self.outward(torch.cat(made, dim=1)))
        weight = torch.sigmoid(self.excite(torch.relu(self.squeeze(hidden.mean(2, keepdim=True)))))
        return hidden * weight + x


@dataclass(frozen=True)
class SpeakerEncoder:
    """Weights of the speaker encoder."""

    entry: SameConv
    blocks: tuple[ResidualBlock, ...]
    merge: SameConv
    attention_in: SameConv
    attention_out: SameConv
    projection: SameConv

    @classmethod
    def load(cls, weights: Weights, config: SpeakerEncoderConfig) -> SpeakerEncoder:
        """Take all tensors of the speaker encoder."""
        wide = config.channels[-1]
        first = (config.mels, config.channels[0])
        return cls(
            entry=SameConv.load(weights, f"{_PREFIX}.blocks.0.conv", first, config.kernels[0], config.dilations[0]),
            blocks=tuple(ResidualBlock.load(weights, i, config) for i in range(1, len(config.channels) - 1)),
            merge=SameConv.load(weights, f"{_PREFIX}.mfa.conv", (wide, wide), config.kernels[-1], config.dilations[-1]),
            attention_in=SameConv.load(weights, f"{_PREFIX}.asp.tdnn.conv", (3 * wide, config.attention)),
            attention_out=SameConv.load(weights, f"{_PREFIX}.asp.conv", (config.attention, wide)),
            projection=SameConv.load(weights, f"{_PREFIX}.fc", (2 * wide, config.width)),
        )

    def embed(self, mel: Tensor) -> Tensor:
        """The voice vector (D,) of a mel spectrogram (T, M); T must be at least 5."""
        x = torch.relu(self.entry(mel.T[None]))
        levels = []
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        x = torch.relu(self.merge(torch.cat(levels, dim=1)))
        mean, deviation = _statistics(x, torch.full_like(x[:, :1], 1.0 / x.shape[-1]))
        context = torch.cat((x, mean.expand_as(x), deviation.expand_as(x)), dim=1)
        attention = self.attention_out(torch.tanh(torch.relu(self.attention_in(context))))
        pooled = torch.cat(_statistics(x, attention.softmax(dim=2)), dim=1)
        return self.projection(pooled)[0, :, 0]


def _statistics(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and deviation over time, (1, C, 1) each."""
    mean = (weight * x).sum(2, keepdim=True)
    variance = (weight * (x - mean).square()).sum(2, keepdim=True)
    return mean, variance.clamp(min=1e-12).sqrt()
