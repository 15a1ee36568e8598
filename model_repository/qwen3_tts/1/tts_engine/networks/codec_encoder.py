"""The codec encoder: a recording in, 16 codes per 80 ms out. Run once per voice.

Source: the Mimi encoder (Kyutai, arXiv 2410.00037) as transformers 4.57.3 runs it for Qwen3-TTS-Tokenizer-12Hz: its
attention is plainly causal, although the config names a window, and only the first 16 of its 32 quantizers matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codec_config import CodecEncoderConfig
from ..config import CODEBOOKS
from ..model_config import TransformerConfig
from ..weights import Weights
from .attending import attend
from .layers import Attention, rotary_table

_ENCODER = "encoder.encoder.layers"
_TRANSFORMER = "encoder.encoder_transformer.layers"
_QUANTIZER = "encoder.quantizer"


@dataclass(frozen=True)
class StridedConv:
    """Causal convolution, padded on the left for its reach and on the right up to a whole stride."""

    weight: Tensor
    bias: Tensor | None
    stride: int
    pad_mode: str = "constant"

    @classmethod
    def load(
        cls, weights: Weights, prefix: str, channels: tuple[int, int], kernel: int, stride: int = 1
    ) -> StridedConv:
        """Take `prefix`.conv.{weight,bias}."""
        weight = weights.take(f"{prefix}.conv.weight", channels[1], channels[0], kernel)
        return cls(weight, weights.take(f"{prefix}.conv.bias", channels[1]), stride)

    def __call__(self, x: Tensor) -> Tensor:
        """(1, C, N) → (1, C', ⌈N/stride⌉)."""
        whole = math.ceil(x.shape[-1] / self.stride) * self.stride
        left = self.weight.shape[-1] - self.stride
        return F.conv1d(F.pad(x, (left, whole - x.shape[-1]), self.pad_mode), self.weight, self.bias, self.stride)


@dataclass(frozen=True)
class EncoderStage:
    """A residual unit at one rate, then a convolution down to the next."""

    narrow: StridedConv
    widen: StridedConv
    down: StridedConv

    def __call__(self, x: Tensor) -> Tensor:
        """(1, C, N) → (1, 2C, N/stride)."""
        x = x + self.widen(F.elu(self.narrow(F.elu(x))))
        return self.down(F.elu(x))


@dataclass(frozen=True)
class EncoderLayer:
    """One transformer layer of the encoder."""

    attention_norm: tuple[Tensor, Tensor]
    attention: Attention
    attention_gain: Tensor
    feed_norm: tuple[Tensor, Tensor]
    feed_in: Tensor
    feed_out: Tensor
    feed_gain: Tensor

    @classmethod
    def load(cls, weights: Weights, prefix: str, config: TransformerConfig) -> EncoderLayer:
        """Take the tensors under `prefix`."""
        width, wide = config.hidden, config.intermediate

        def norm(name: str) -> tuple[Tensor, Tensor]:
            return weights.take(f"{prefix}.{name}.weight", width), weights.take(f"{prefix}.{name}.bias", width)

        return cls(
            attention_norm=norm("input_layernorm"),
            attention=Attention.load(weights, f"{prefix}.self_attn", config, normed=False),
            attention_gain=weights.take(f"{prefix}.self_attn_layer_scale.scale", width),
            feed_norm=norm("post_attention_layernorm"),
            feed_in=weights.take(f"{prefix}.mlp.fc1.weight", wide, width),
            feed_out=weights.take(f"{prefix}.mlp.fc2.weight", width, wide),
            feed_gain=weights.take(f"{prefix}.mlp_layer_scale.scale", width),
        )


@dataclass(frozen=True)
class CodecEncoder:
    """Weights of the encoder. codebooks (Q, V, C) are already divided by usage; book 0 stands alone."""

    config: TransformerConfig
    entry: StridedConv
    stages: tuple[EncoderStage, ...]
    exit: StridedConv
    layers: tuple[EncoderLayer, ...]
    down: StridedConv
    first_in: Tensor
    rest_in: Tensor
    codebooks: Tensor

    @classmethod
    def load(cls, weights: Weights, config: CodecEncoderConfig) -> CodecEncoder:
        """Take all encoder tensors; quantizers past the 16th are left."""
        inner, channels = config.transformer, config.filters
        entry = StridedConv.load(weights, f"{_ENCODER}.0", (1, channels), config.kernel)
        stages, index = [], 1
        for ratio in reversed(config.ratios):
            stages.append(_load_stage(weights, index, channels, ratio, config))
            channels, index = 2 * channels, index + 3
        down = weights.take("encoder.downsample.conv.weight", inner.hidden, inner.hidden, 2 * _DOWN)
        semantic, acoustic = (
            f"{_QUANTIZER}.semantic_residual_vector_quantizer",
            f"{_QUANTIZER}.acoustic_residual_vector_quantizer",
        )
        width = config.codebook_dim
        projections = [
            weights.take(f"{q}.input_proj.weight", width, inner.hidden, 1)[..., 0] for q in (semantic, acoustic)
        ]
        books = [_load_book(weights, f"{semantic}.layers.0", config)]
        books += [_load_book(weights, f"{acoustic}.layers.{i}", config) for i in range(CODEBOOKS - 1)]
        weights.leave(_unused(semantic, acoustic, config.quantizers))
        return cls(
            config=inner,
            entry=entry,
            stages=tuple(stages),
            exit=StridedConv.load(weights, f"{_ENCODER}.{index + 1}", (channels, inner.hidden), config.last_kernel),
            layers=tuple(EncoderLayer.load(weights, f"{_TRANSFORMER}.{i}", inner) for i in range(inner.layers)),
            down=StridedConv(down, None, _DOWN, "replicate"),
            first_in=projections[0],
            rest_in=projections[1],
            codebooks=torch.stack(books),
        )

    def encode(self, samples: Tensor) -> Tensor:
        """Codes int64 (T, Q), T = ⌈N/1920⌉, of a recording (N,), float at 24 kHz in [-1, 1]."""
        x = self.entry(samples[None, None])
        for stage in self.stages:
            x = stage(x)
        x = self._transform(self.exit(F.elu(x)).transpose(1, 2))
        latent = self.down(x.transpose(1, 2))[0].T
        codes = [_nearest(F.linear(latent, self.first_in), self.codebooks[0])]
        residual = F.linear(latent, self.rest_in)
        for book in self.codebooks[1:]:
            codes.append(_nearest(residual, book))
            residual = residual - book[codes[-1]]
        return torch.stack(codes, dim=1)

    def _transform(self, x: Tensor) -> Tensor:
        """The transformer over (1, T, D)."""
        tokens, eps = x.shape[1], self.config.eps
        rotary = rotary_table(tokens, self.config.head_dim, self.config.rope_theta, x.device, x.dtype).span(0, tokens)
        mask = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).tril()
        for layer in self.layers:
            normed = F.layer_norm(x, layer.attention_norm[0].shape, *layer.attention_norm, eps)
            heads = attend(*layer.attention.project(normed, self.config, rotary), mask)
            x = x + layer.attention_gain * layer.attention.output(heads)
            normed = F.layer_norm(x, layer.feed_norm[0].shape, *layer.feed_norm, eps)
            x = x + layer.feed_gain * F.linear(F.gelu(F.linear(normed, layer.feed_in)), layer.feed_out)
        return x


_DOWN = 2
"""Steps of the transformer per frame."""


def _load_stage(weights: Weights, index: int, channels: int, ratio: int, config: CodecEncoderConfig) -> EncoderStage:
    """Layers index … index+2 of the encoder: a residual unit, an activation without weights, a strided convolution."""
    block, half = f"{_ENCODER}.{index}.block", channels // config.compress
    return EncoderStage(
        narrow=StridedConv.load(weights, f"{block}.1", (channels, half), config.residual_kernel),
        widen=StridedConv.load(weights, f"{block}.3", (half, channels), 1),
        down=StridedConv.load(weights, f"{_ENCODER}.{index + 2}", (channels, 2 * channels), 2 * ratio, ratio),
    )


def _load_book(weights: Weights, prefix: str, config: CodecEncoderConfig) -> Tensor:
    usage = weights.take(f"{prefix}.codebook.cluster_usage", config.codebook_size).clamp(min=1e-5)
    weights.leave((f"{prefix}.codebook.initialized",))
    return weights.take(f"{prefix}.codebook.embed_sum", config.codebook_size, config.codebook_dim) / usage[:, None]


def _unused(semantic: str, acoustic: str, quantizers: int) -> tuple[str, ...]:
    """Projections back, and the quantizers whose codes nobody reads."""
    spare = [f"{acoustic}.layers.{i}." for i in range(CODEBOOKS - 1, quantizers - 1)]
    return (f"{semantic}.output_proj", f"{acoustic}.output_proj", *spare)


def _nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """Indices (T,) of the rows of `book` (V, C) nearest to `vectors` (T, C)."""
    # On a GPU from differences: taken from a product in TF32, distances are too coarse to tell neighbours apart.
    how = "donot_use_mm_for_euclid_dist" if book.is_cuda else "use_mm_for_euclid_dist_if_necessary"
    return torch.cdist(vectors[None], book[None], compute_mode=how)[0].argmin(-1)
