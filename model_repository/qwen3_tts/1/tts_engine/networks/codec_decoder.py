"""The codec decoder: 16 codes in, 1,920 samples out, final at once, since every layer looks only back.

Source: Qwen3-TTS-Tokenizer-12Hz as qwen-tts 0.1.1 decodes it without its chunking. What upstream recomputes from
left context is kept here as state, so a stream decoded frame by frame equals the whole decoded at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import kernels
from ..codec_config import CodecConfig
from ..config import CODEBOOKS
from ..kv_cache import RingView
from ..model_config import TransformerConfig
from ..weights import Weights
from . import fused_vocoder
from .codec_layers import CausalConv, CausalUpsample, ConvNeXt, SnakeBeta, Streams, TailShapes, VocoderBlock
from .codec_state import CodecState
from .layers import Attention, Rotary, SwiGlu, add_norm, rms_norm, rotary_frequencies, rotary_of
from .linear import Linear


@dataclass(frozen=True)
class CodecLayer:
    """One layer of the codec's transformer: a window of attention; the learned gain of each branch is in its output."""

    attention_norm: Tensor
    attention: Attention
    feed_norm: Tensor
    feed: SwiGlu

    @classmethod
    def load(cls, weights: Weights, prefix: str, config: TransformerConfig) -> CodecLayer:
        """Take the tensors under `prefix`."""
        gains = [weights.take(f"{prefix}.{part}_layer_scale.scale", config.hidden) for part in ("self_attn", "mlp")]
        return cls(
            attention_norm=weights.take(f"{prefix}.input_layernorm.weight", config.hidden),
            attention=Attention.load(weights, f"{prefix}.self_attn", config, normed=False, gain=gains[0]),
            feed_norm=weights.take(f"{prefix}.post_attention_layernorm.weight", config.hidden),
            feed=SwiGlu.load(weights, f"{prefix}.mlp", config, gain=gains[1]),
        )


@dataclass(frozen=True)
class CodecTransformer:
    """The windowed transformer between codebooks and vocoder. frequencies: see `rotary_frequencies`."""

    config: TransformerConfig
    frequencies: Tensor
    window: int
    inward: Linear
    layers: tuple[CodecLayer, ...]
    norm: Tensor
    outward: Linear

    @classmethod
    def load(cls, weights: Weights, prefix: str, config: CodecConfig) -> CodecTransformer:
        """Take the tensors under `prefix`."""
        inner, width, latent = config.transformer, config.transformer.hidden, config.latent
        norm = weights.take(f"{prefix}.norm.weight", width)
        return cls(
            config=inner,
            frequencies=rotary_frequencies(inner.head_dim, inner.rope_theta, norm.device),
            window=config.window,
            inward=Linear.load(weights, f"{prefix}.input_proj", width, latent),
            layers=tuple(CodecLayer.load(weights, f"{prefix}.layers.{i}", inner) for i in range(inner.layers)),
            norm=norm,
            outward=Linear.load(weights, f"{prefix}.output_proj", latent, width),
        )

    def __call__(self, x: Tensor, state: CodecState) -> Tensor:
        """(B, T, latent) → (B, T, latent); stores the new keys and values in the first B rings."""
        rows, tokens, _ = x.shape
        assert tokens + self.window - 1 <= state.keys.shape[3], "more frames in one call than the state was made for"
        view = RingView(state.keys, state.values, state.frames[:rows], tokens, self.window)
        fused, eps = kernels.chosen(), self.config.eps
        if fused is not None and view.turns_once:
            rotary, mask = Rotary(*fused.turns(state.frames[:rows], self.frequencies, x.dtype)), None
        else:
            rotary, mask = rotary_of(view.positions, self.frequencies, x.dtype), view.visible
        x = self.inward(x)
        normed = rms_norm(x, self.layers[0].attention_norm, eps)
        after = (*(layer.attention_norm for layer in self.layers[1:]), self.norm)
        for index, layer in enumerate(self.layers):
            seen = layer.attention.over(normed, self.config, rotary, view, index, mask)
            x, normed = add_norm(x, layer.attention.output(seen), layer.feed_norm, eps)
            x, normed = add_norm(x, layer.feed(normed), after[index], eps)
        return self.outward(normed)


@dataclass(frozen=True)
class CodecDecoder:
    """Weights of the decoder.

    codebooks (Q, V, C): each code's vector, already divided by its usage and projected.
    """

    codebooks: Tensor
    entry: CausalConv
    transformer: CodecTransformer
    upsample: tuple[tuple[CausalUpsample, ConvNeXt], ...]
    vocoder_entry: CausalConv
    vocoder: tuple[VocoderBlock, ...]
    activation: SnakeBeta
    exit: CausalConv
    tail_shapes: tuple[tuple[int, int], ...]

    @classmethod
    def load(cls, weights: Weights, config: CodecConfig, *, mixed: bool = False) -> CodecDecoder:
        """Take all decoder tensors; what only the encoder or training uses is left.

        mixed: the vocoder in mixed precision (codec_layers.py).
        """
        weights.leave(("decoder.quantizer.rvq_first.input_proj", "decoder.quantizer.rvq_rest.input_proj"))
        shapes, latent, wide = TailShapes(), config.latent, config.codebook_dim
        blocks, channels = [], config.channels
        entry = CausalConv.load(weights, "decoder.pre_conv", shapes, (wide, latent), 3)
        upsample = tuple(_load_upsample(weights, i, shapes, latent, r) for i, r in enumerate(config.upsampling_ratios))
        vocoder_entry = CausalConv.load(weights, "decoder.decoder.0", shapes, (latent, channels), 7)
        for index, rate in enumerate(config.upsample_rates, start=1):
            blocks.append(VocoderBlock.load(weights, f"decoder.decoder.{index}", shapes, channels, rate, mixed=mixed))
            channels //= 2
        last = len(blocks) + 1
        return cls(
            codebooks=_load_codebooks(weights, config),
            entry=entry,
            transformer=CodecTransformer.load(weights, "decoder.pre_transformer", config),
            upsample=upsample,
            vocoder_entry=vocoder_entry,
            vocoder=tuple(blocks),
            activation=SnakeBeta.load(weights, f"decoder.decoder.{last}", channels, mixed=mixed),
            exit=CausalConv.load(weights, f"decoder.decoder.{last + 1}", shapes, (channels, 1), 7),
            tail_shapes=tuple(shapes.shapes),
        )

    def allocate(self, slots: int, frames_per_call: int) -> CodecState:
        """Fresh state for `slots` streams, of which one call may bring up to `frames_per_call` frames each."""
        like = self.codebooks
        ring = like.new_zeros(2, *self._ring(slots, frames_per_call))
        widths = [channels * length for channels, length in self.tail_shapes]
        arena = like.new_zeros(slots + 1, sum(widths))
        parts = zip(arena.split(widths, dim=1), self.tail_shapes, strict=True)
        return CodecState(
            frames=torch.zeros(slots + 1, dtype=torch.int64, device=like.device),
            keys=ring[0],
            values=ring[1],
            arena=arena,
            tails=[part.unflatten(1, shape) for part, shape in parts],
            reach=self.transformer.window - 1,
        )

    def slot_bytes(self, frames_per_call: int) -> int:
        """What one stream's state takes."""
        numbers = 2 * math.prod(self._ring(1, frames_per_call)) + sum(map(math.prod, self.tail_shapes))
        return numbers * self.codebooks.element_size()

    def _ring(self, slots: int, frames_per_call: int) -> tuple[int, ...]:
        inner, reach = self.transformer.config, self.transformer.window - 1
        return inner.layers, slots, inner.kv_heads, reach + frames_per_call, inner.head_dim

    def decode(self, codes: Tensor, state: CodecState, targets: Tensor) -> Tensor:
        """The next samples (B, T·1920), in [-1, 1], of the streams in the first B slots.

        codes, state, targets: as `sound` has them.
        """
        return self.sound(codes, state, targets).clamp(-1.0, 1.0)

    def sound(self, codes: Tensor, state: CodecState, targets: Tensor) -> Tensor:
        """The next samples (B, T·1920) of the streams in the first B slots, not yet cut to [-1, 1].

        codes: int64 (B, Q, T), each below the codebook size. targets int64 (B,): slot b, whose stream then advances,
        or S, and slot b is held as it was.
        """
        tokens, streams = codes.shape[2], Streams(state.tails, targets)
        latent = self._latent(codes)
        hidden = self.transformer(self._entered(latent, streams), state)
        _advance(state.frames, targets, tokens)
        fused = kernels.chosen()
        if fused is not None:
            return self._by_kernels(hidden, streams, fused)
        for upsample, mix in self.upsample:
            hidden = mix(upsample(hidden, streams), streams)
        hidden = self.vocoder_entry(hidden, streams)
        for block in self.vocoder:
            hidden = block(hidden, streams)
        return self.exit(self.activation(hidden), streams)[..., 0]

    def _latent(self, codes: Tensor) -> Tensor:
        """The sum of the vectors of each frame's codes (B, Q, T): (B, T, C)."""
        fused = kernels.chosen()
        if fused is not None and codes.shape[2] == 1:
            summed: Tensor = fused.summed(codes[..., 0], self.codebooks)
            return summed[:, None]
        books = torch.arange(CODEBOOKS, device=codes.device)[:, None]
        return self.codebooks[books, codes].sum(1)

    def _entered(self, latent: Tensor, streams: Streams) -> Tensor:
        fused = kernels.chosen()
        if fused is None:
            return self.entry(latent, streams)
        return fused_vocoder.convolved(fused, self.entry, latent, streams)

    def _by_kernels(self, hidden: Tensor, streams: Streams, fused: ModuleType) -> Tensor:
        """What stands behind the transformer."""
        x, added = fused_vocoder.raised(fused, self.upsample, hidden, streams)
        x = fused_vocoder.convolved(fused, self.vocoder_entry, x, streams, added)
        x, added = fused_vocoder.vocoded(fused, self.vocoder, x, streams)
        return fused_vocoder.activated_exit(fused, self.activation, self.exit, x, added, streams)[..., 0]


def _advance(frames: Tensor, targets: Tensor, tokens: int) -> None:
    """Count `tokens` more frames for the streams of `targets`."""
    fused = kernels.chosen()
    if fused is not None:
        fused.advance(targets, frames, by=tokens)
    else:
        frames.index_add_(0, targets, torch.full_like(targets, tokens))


_PARTS = ("rvq_first", "rvq_rest")


def _load_upsample(
    weights: Weights, index: int, shapes: TailShapes, latent: int, ratio: int
) -> tuple[CausalUpsample, ConvNeXt]:
    prefix = f"decoder.upsample.{index}"
    upsample = CausalUpsample.load(weights, f"{prefix}.0", shapes, (latent, latent), ratio, ratio)
    return upsample, ConvNeXt.load(weights, f"{prefix}.1", shapes, latent)


def _load_codebooks(weights: Weights, config: CodecConfig) -> Tensor:
    """Each code's vector: the sum of what was assigned to it in training, divided by how often; then the projection
    that follows, which is linear, so that a frame's vectors need only be added."""
    size, wide, books = config.codebook_size, config.codebook_dim, []
    width = wide // 2
    out = [weights.take(f"decoder.quantizer.{part}.output_proj.weight", wide, width, 1)[..., 0] for part in _PARTS]
    for book in range(CODEBOOKS):
        part, layer = (_PARTS[0], 0) if book == 0 else (_PARTS[1], book - 1)
        prefix = f"decoder.quantizer.{part}.vq.layers.{layer}._codebook"
        usage = weights.take(f"{prefix}.cluster_usage", size).clamp(min=1e-5)
        vectors = weights.take(f"{prefix}.embedding_sum", size, width) / usage[:, None]
        books.append(F.linear(vectors, out[min(book, 1)]))
    return torch.stack(books)
