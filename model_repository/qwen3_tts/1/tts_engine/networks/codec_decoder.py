"""The codec decoder: 16 codes in, 1,920 samples out, final at once, since every layer looks only back.

Source: Qwen3-TTS-Tokenizer-12Hz as qwen-tts 0.1.1 decodes it without its chunking. What upstream recomputes from
left context is kept here as state, so a stream decoded frame by frame equals the whole decoded at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..codec_config import CodecConfig
from ..config import CODEBOOKS
from ..model_config import TransformerConfig
from ..weights import Weights
from .codec_layers import CausalConv, CausalUpsample, ConvNeXt, SnakeBeta, Streams, TailShapes, VocoderBlock
from .codec_state import CodecState
from .layers import Attention, SwiGlu, attend, rms_norm, rotary_of
from .linear import Linear


@dataclass(frozen=True)
class CodecLayer:
    """One layer of the codec's transformer: a window of attention, and a learned gain on both branches."""

    attention_norm: Tensor
    attention: Attention
    attention_gain: Tensor
    feed_norm: Tensor
    feed: SwiGlu
    feed_gain: Tensor

    @classmethod
    def load(cls, weights: Weights, prefix: str, config: TransformerConfig) -> CodecLayer:
        """Take the tensors under `prefix`."""
        return cls(
            attention_norm=weights.take(f"{prefix}.input_layernorm.weight", config.hidden),
            attention=Attention.load(weights, f"{prefix}.self_attn", config, normed=False),
            attention_gain=weights.take(f"{prefix}.self_attn_layer_scale.scale", config.hidden),
            feed_norm=weights.take(f"{prefix}.post_attention_layernorm.weight", config.hidden),
            feed=SwiGlu.load(weights, f"{prefix}.mlp", config),
            feed_gain=weights.take(f"{prefix}.mlp_layer_scale.scale", config.hidden),
        )


@dataclass(frozen=True)
class CodecTransformer:
    """The windowed transformer between codebooks and vocoder."""

    config: TransformerConfig
    window: int
    inward: Linear
    layers: tuple[CodecLayer, ...]
    norm: Tensor
    outward: Linear

    @classmethod
    def load(cls, weights: Weights, prefix: str, config: CodecConfig) -> CodecTransformer:
        """Take the tensors under `prefix`."""
        inner, width, latent = config.transformer, config.transformer.hidden, config.latent
        return cls(
            config=inner,
            window=config.window,
            inward=Linear.load(weights, f"{prefix}.input_proj", width, latent),
            layers=tuple(CodecLayer.load(weights, f"{prefix}.layers.{i}", inner) for i in range(inner.layers)),
            norm=weights.take(f"{prefix}.norm.weight", width),
            outward=Linear.load(weights, f"{prefix}.output_proj", latent, width),
        )

    def __call__(self, x: Tensor, state: CodecState) -> Tensor:
        """(B, T, latent) → (B, T, latent); stores the new keys and values in the first B rings.

        The places written lie outside the window of any frame before them, so a stream that is then held, and is
        written again when it goes on, has lost nothing.
        """
        rows, tokens, _ = x.shape
        ring = state.keys.shape[3]
        assert tokens + self.window - 1 <= ring, "more frames in one call than the state was allocated for"
        positions = state.frames[:rows, None] + torch.arange(tokens, device=x.device)
        places = positions % ring
        mask = self._visible(positions, ring)
        rotary = rotary_of(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        row_index = torch.arange(rows, device=x.device)[:, None]
        x = self.inward(x)
        for index, layer in enumerate(self.layers):
            normed = rms_norm(x, layer.attention_norm, self.config.eps)
            query, key, value = layer.attention.project(normed, self.config, rotary)
            keys, values = state.keys[index, :rows], state.values[index, :rows]
            keys.transpose(1, 2)[row_index, places] = key.transpose(1, 2)
            values.transpose(1, 2)[row_index, places] = value.transpose(1, 2)
            x = x + layer.attention_gain * layer.attention.output(attend(query, keys, values, mask))
            x = x + layer.feed_gain * layer.feed(rms_norm(x, layer.feed_norm, self.config.eps))
        return self.outward(rms_norm(x, self.norm, self.config.eps))

    def _visible(self, positions: Tensor, ring: int) -> Tensor:
        """Which ring places each query may look at: bool (B, 1, T, R).

        Place r holds the latest position congruent to r, up to the last one of this call.
        """
        latest = positions[:, -1:]
        held = latest - (latest - torch.arange(ring, device=positions.device)) % ring
        held, query = held[:, None, None], positions[:, None, :, None]
        return (held >= 0) & (held <= query) & (held > query - self.window)


@dataclass(frozen=True)
class CodecDecoder:
    """Weights of the decoder.

    codebooks (Q, V, C): each code's vector, already divided by its usage.
    first_out, rest_out (C', C): projections of codebook 0 and of the sum of the others.
    """

    codebooks: Tensor
    first_out: Linear
    rest_out: Linear
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
        out = [weights.take(f"decoder.quantizer.{p}.output_proj.weight", wide, wide // 2, 1) for p in _PARTS]
        return cls(
            codebooks=_load_codebooks(weights, config),
            first_out=Linear.of(out[0][..., 0]),
            rest_out=Linear.of(out[1][..., 0]),
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

        codes: int64 (B, Q, T), each below the codebook size. targets int64 (B,): slot b, whose stream then advances,
        or S, and slot b is held as it was.
        """
        tokens, streams = codes.shape[2], Streams(state.tails, targets)
        books = torch.arange(CODEBOOKS, device=codes.device)[:, None]
        vectors = self.codebooks[books, codes]
        latent = self.first_out(vectors[:, 0]) + self.rest_out(vectors[:, 1:].sum(1))
        hidden = self.transformer(self.entry(latent, streams), state)
        state.frames.index_add_(0, targets, torch.full_like(targets, tokens))
        for upsample, mix in self.upsample:
            hidden = mix(upsample(hidden, streams), streams)
        hidden = self.vocoder_entry(hidden, streams)
        for block in self.vocoder:
            hidden = block(hidden, streams)
        return self.exit(self.activation(hidden), streams)[..., 0].clamp(-1.0, 1.0)


_PARTS = ("rvq_first", "rvq_rest")


def _load_upsample(
    weights: Weights, index: int, shapes: TailShapes, latent: int, ratio: int
) -> tuple[CausalUpsample, ConvNeXt]:
    prefix = f"decoder.upsample.{index}"
    upsample = CausalUpsample.load(weights, f"{prefix}.0", shapes, (latent, latent), ratio, ratio)
    return upsample, ConvNeXt.load(weights, f"{prefix}.1", shapes, latent)


def _load_codebooks(weights: Weights, config: CodecConfig) -> Tensor:
    """Each code's vector: the sum of what was assigned to it in training, divided by how often."""
    size, width, books = config.codebook_size, config.codebook_dim // 2, []
    for book in range(CODEBOOKS):
        part, layer = (_PARTS[0], 0) if book == 0 else (_PARTS[1], book - 1)
        prefix = f"decoder.quantizer.{part}.vq.layers.{layer}._codebook"
        usage = weights.take(f"{prefix}.cluster_usage", size).clamp(min=1e-5)
        books.append(weights.take(f"{prefix}.embedding_sum", size, width) / usage[:, None])
    return torch.stack(books)
