"""The least time a device could need: what must be read and computed, from a checkpoint's dimensions alone.

A floor is the greater of bytes / bandwidth and operations / rate, and assumes everything else is hidden or free: no
launch, no dependency between kernels, weights read once a pass, keys and values once, an activation written and
read once where a convolution must spill it. Knows no tensor and measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tts_engine.codec_config import CodecConfig
from tts_engine.config import CODEBOOKS
from tts_engine.model_config import ModelConfig, TransformerConfig

_PASSES = CODEBOOKS - 1
# A pass reads the keys of the positions before it; the first reads two positions that are new.
_CACHED_POSITIONS = sum(range(2, CODEBOOKS))
_SCORE_BYTES = 4


@dataclass(frozen=True)
class Rates:
    """What a device does at best: bandwidth in bytes/s, compute in operations/s of one dtype."""

    bandwidth: float
    compute: float


@dataclass(frozen=True)
class Work:
    """Bytes that must pass the memory's bus, and arithmetic operations (a multiply-add is two)."""

    bytes: float
    flops: float

    def seconds(self, rates: Rates) -> float:
        """The floor of this work on a device."""
        return max(self.bytes / rates.bandwidth, self.flops / rates.compute)

    def bound(self, rates: Rates) -> Literal["memory", "compute"]:
        """Which of the two sets the floor."""
        return "memory" if self.bytes / rates.bandwidth >= self.flops / rates.compute else "compute"


def layer_weights(config: TransformerConfig) -> int:
    """Values in the matrices of a gated transformer layer."""
    heads, shared = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return config.hidden * (2 * heads + 2 * shared) + 3 * config.hidden * config.intermediate


def position_bytes(config: TransformerConfig, itemsize: int) -> int:
    """Bytes of one position's keys and values in all layers."""
    return 2 * config.layers * config.kv_heads * config.head_dim * itemsize


def attention_flops(config: TransformerConfig, positions: float) -> float:
    """Operations of all layers that let queries look at `positions` keys in total."""
    return 4 * config.layers * config.heads * config.head_dim * positions


def talker_step(model: ModelConfig, rows: int, context: int, itemsize: int) -> Work:
    """One token for each of `rows` utterances that have `context` positions behind them, and its scores."""
    talker = model.talker
    weights = talker.layers * layer_weights(talker) + model.vocab * talker.hidden
    return Work(
        bytes=weights * itemsize + rows * context * position_bytes(talker, itemsize),
        flops=rows * (2 * weights + attention_flops(talker, context)),
    )


def predictor_frame(model: ModelConfig, rows: int, itemsize: int) -> Work:
    """Fifteen dependent passes of the code predictor. The projection of its inputs is folded into tables but once."""
    predictor = model.predictor
    stack, heads = predictor.layers * layer_weights(predictor), _PASSES * model.code_vocab * predictor.hidden
    projection = predictor.hidden * model.talker.hidden if predictor.hidden != model.talker.hidden else 0
    keys = _CACHED_POSITIONS * position_bytes(predictor, itemsize)
    attended = sum(range(1, CODEBOOKS + 1))
    return Work(
        bytes=(_PASSES * stack + heads + projection) * itemsize + rows * keys,
        flops=rows * (2 * (CODEBOOKS * stack + heads + projection) + attention_flops(predictor, attended)),
    )


def sampling(model: ModelConfig, rows: int) -> Work:
    """Reading every score once; its arithmetic is not counted."""
    return Work(bytes=rows * (model.vocab + _PASSES * model.code_vocab) * _SCORE_BYTES, flops=0)


@dataclass(frozen=True)
class CodecLayer:
    """A layer of the codec decoder for one frame: values of its weights, multiply-adds, activations in and out."""

    weights: int
    products: int
    activations: int


def codec_frame(codec: CodecConfig, rows: int, itemsize: int) -> Work:
    """One frame of 1,920 samples for each row."""
    layers = [*_latent_layers(codec), *_upsample_layers(codec), *_vocoder_layers(codec)]
    inner = codec.transformer
    window = position_bytes(inner, itemsize) * (codec.window - 1)
    spilled = sum(layer.activations for layer in layers) * itemsize
    products = sum(layer.products for layer in layers)
    return Work(
        bytes=sum(layer.weights for layer in layers) * itemsize + rows * (window + spilled),
        flops=rows * (2 * products + attention_flops(inner, codec.window)),
    )


def codec_weights(codec: CodecConfig) -> int:
    """Values in the decoder's matrices and kernels, without the codebooks, of which a frame reads 16 rows."""
    layers = [*_latent_layers(codec), *_upsample_layers(codec), *_vocoder_layers(codec)]
    return sum(layer.weights for layer in layers)


def prefill(model: ModelConfig, rows: int, length: int, known: int, itemsize: int) -> Work:
    """Reading prompts of `length` positions, all at once, the first `known` of which are kept from before."""
    talker, new = model.talker, length - known
    weights = talker.layers * layer_weights(talker)
    attended = sum(range(known + 1, length + 1))
    return Work(
        bytes=weights * itemsize + rows * length * position_bytes(talker, itemsize),
        flops=rows * (2 * weights * new + attention_flops(talker, attended)),
    )


def _latent_layers(codec: CodecConfig) -> Iterator[CodecLayer]:
    """Codes to latents and the transformer, one position a frame; their activations are too few to count.

    The projections of the codebooks are folded into tables.
    """
    latent, inner = codec.latent, codec.transformer
    stack = inner.layers * layer_weights(inner) + 2 * inner.hidden * latent
    for weights in (3 * codec.codebook_dim * latent, stack):
        yield CodecLayer(weights, weights, 0)


def _upsample_layers(codec: CodecConfig) -> Iterator[CodecLayer]:
    places, latent = 1, codec.latent
    for ratio in codec.upsampling_ratios:
        yield _transposed(latent, latent, ratio, ratio, places)
        places *= ratio
        yield CodecLayer(7 * latent, 7 * latent * places, 2 * latent * places)
        yield _conv(latent, 4 * latent, 1, places)
        yield _conv(4 * latent, latent, 1, places)


def _vocoder_layers(codec: CodecConfig) -> Iterator[CodecLayer]:
    places, channels = 1, codec.channels
    for ratio in codec.upsampling_ratios:
        places *= ratio
    yield _conv(codec.latent, channels, 7, places)
    for rate in codec.upsample_rates:
        half = channels // 2
        yield _transposed(channels, half, 2 * rate, rate, places)
        places *= rate
        for _ in range(3):
            yield _conv(half, half, 7, places)
            yield _conv(half, half, 1, places)
        channels = half
    yield _conv(channels, 1, 7, places)


def _conv(incoming: int, outgoing: int, kernel: int, places: int) -> CodecLayer:
    weights = incoming * outgoing * kernel
    return CodecLayer(weights, weights * places, (incoming + outgoing) * places)


def _transposed(incoming: int, outgoing: int, kernel: int, stride: int, places: int) -> CodecLayer:
    weights = incoming * outgoing * kernel
    return CodecLayer(weights, weights * places, (incoming + outgoing * stride) * places)
