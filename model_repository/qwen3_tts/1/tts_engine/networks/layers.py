"""The building blocks the talker, the code predictor and the codec's transformer share.

Norms are computed in at least float32 and rounded back before the weight is applied, rotary tables are made in
float32 and rounded once: the rounding points of the reference implementation (qwen-tts 0.1.1), which the code
predictor's fifteen chained passes are sensitive to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import kernels
from ..kv_cache import RingView, SpanView, StepView
from ..model_config import TransformerConfig
from ..weights import Weights
from .attending import Parts, attend
from .linear import Linear


class Cache(Protocol):
    """Where attention keeps keys and values between calls."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, G, T, K) of a layer; return those to attend to, (B, G, T_all, K)."""
        ...


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines of rotary position embedding, (B, T, K) or broadcastable to it."""

    cos: Tensor
    sin: Tensor

    @cached_property
    def turning(self) -> Tensor:
        """The sines as the halves of a head meet them when they have changed places: the first negative."""
        first, second = self.sin.chunk(2, dim=-1)
        return torch.cat((-first, second), dim=-1)

    def at(self, positions: Tensor) -> Rotary:
        """The rows of `positions` (B, T), of a table indexed by position: (B, T, K)."""
        return Rotary(self.cos[positions], self.sin[positions])

    def span(self, start: int, end: int) -> Rotary:
        """Positions start … end-1 of a table, alike for all rows: (1, T, K)."""
        return Rotary(self.cos[None, start:end], self.sin[None, start:end])


def rotary_table(length: int, head_dim: int, theta: float, device: torch.device, dtype: torch.dtype) -> Rotary:
    """A rotary table for positions 0 … length-1, (length, K); half-split layout, angles in float32."""
    return rotary_of(torch.arange(length, device=device), rotary_frequencies(head_dim, theta, device), dtype)


def rotary_frequencies(head_dim: int, theta: float, device: torch.device) -> Tensor:
    """By how much each pair of a head turns from one position to the next: float32 (K/2,)."""
    return 1.0 / theta ** (torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)


def rotary_of(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Rotary:
    """Rotary cosines and sines of any integer tensor of positions (…): (…, K)."""
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return Rotary(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Apply rotary embedding to heads x (B, H, T, K): pairs are (k, k + K/2)."""
    turned = x.roll(x.shape[-1] // 2, dims=-1).mul_(rotary.turning[:, None])
    return (x * rotary.cos[:, None]).add_(turned)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension; normalised in ≥ float32, rounded, then weighted."""
    fused = kernels.chosen()
    if fused is not None:
        return fused.rms_norm(x, weight, eps)
    if x.device.type == "cpu":
        return weight * F.rms_norm(x, x.shape[-1:], None, eps)  # to the bit what follows, in fewer calls
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def add_norm(x: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum of x and added, (…, D) each, and its norm."""
    fused = kernels.chosen()
    if fused is not None:
        return fused.add_norm(x, added, weight, eps)
    total = x + added
    return total, rms_norm(total, weight, eps)


@dataclass(frozen=True)
class Attention:
    """Grouped-query attention; q_norm and k_norm (K,) are absent in the codec's transformer.

    inward: queries, keys and values of all heads in one product. head_norms (H+G, K): the norm of each query and key
    head, so that all are one operation where there is no kernel.
    """

    inward: Linear
    output: Linear
    query_norm: Tensor | None
    key_norm: Tensor | None
    head_norms: Tensor | None

    @classmethod
    def load(
        cls, weights: Weights, prefix: str, config: TransformerConfig, *, normed: bool, gain: Tensor | None = None
    ) -> Attention:
        """Take the tensors under `prefix` (…self_attn). gain (D,): a factor of each number that comes out."""
        wide, narrow = config.heads * config.head_dim, config.kv_heads * config.head_dim
        parts = (("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow))
        query_norm = weights.take(f"{prefix}.q_norm.weight", config.head_dim) if normed else None
        key_norm = weights.take(f"{prefix}.k_norm.weight", config.head_dim) if normed else None
        head_norms = None
        if query_norm is not None and key_norm is not None:
            head_norms = torch.cat((query_norm.expand(config.heads, -1), key_norm.expand(config.kv_heads, -1)))
        return cls(
            inward=Linear.stacked([weights.take(f"{prefix}.{name}.weight", n, config.hidden) for name, n in parts]),
            output=Linear.of(gained(weights.take(f"{prefix}.o_proj.weight", config.hidden, wide), gain)),
            query_norm=query_norm,
            key_norm=key_norm,
            head_norms=head_norms,
        )

    def project(self, x: Tensor, config: TransformerConfig, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries (B, H, T, K), rotated keys and values (B, G, T, K) of x (B, T, D)."""
        heads = self.inward(x).unflatten(-1, (-1, config.head_dim))
        both, value = heads.split((config.heads + config.kv_heads, config.kv_heads), dim=-2)
        if self.head_norms is not None:
            both = rms_norm(both, self.head_norms, config.eps)
        query, key = rotate(both.transpose(1, 2), rotary).split((config.heads, config.kv_heads), dim=1)
        return query, key, value.transpose(1, 2)

    def over(
        self,
        x: Tensor,
        config: TransformerConfig,
        rotary: Rotary,
        cache: Cache,
        layer: int,
        mask: Tensor | Parts | None,
    ) -> Tensor:
        """Attention of x (B, T, D) over itself and what `cache` holds of `layer`, before the output: (B, T, H·K)."""
        fused = kernels.chosen()
        placed = None
        if fused is not None and x.shape[1] <= fused.FEW_TOKENS and isinstance(cache, SpanView | StepView | RingView):
            placed = cache.place(layer)
        if fused is not None and placed is not None:
            keys, values, position = placed
            norms = None if self.query_norm is None else (self.query_norm, self.key_norm)
            heads, turn = self.inward(x).unflatten(-1, (-1, config.head_dim)), (rotary.cos, rotary.sin)
            ring = isinstance(cache, RingView)
            return fused.attention(heads, norms, turn, keys, values, position, config.eps, ring=ring)
        query, key, value = self.project(x, config, rotary)
        return attend(query, *cache.append(layer, key, value), mask)


def gained(weight: Tensor, gain: Tensor | None) -> Tensor:
    """A product's weight (out, in) or bias (out,) with a gain (out,) of what comes out folded in."""
    if gain is None:
        return weight
    return weight * (gain if weight.ndim == 1 else gain[:, None])


@dataclass(frozen=True)
class SwiGlu:
    """The gated feed-forward; inward: gate and value in one product."""

    inward: Linear
    down: Linear

    @classmethod
    def load(cls, weights: Weights, prefix: str, config: TransformerConfig, *, gain: Tensor | None = None) -> SwiGlu:
        """Take the tensors under `prefix` (…mlp). gain (D,): a factor of each number that comes out."""
        wide = (config.intermediate, config.hidden)
        return cls(
            inward=Linear.stacked([weights.take(f"{prefix}.{name}_proj.weight", *wide) for name in ("gate", "up")]),
            down=Linear.of(
                gained(weights.take(f"{prefix}.down_proj.weight", config.hidden, config.intermediate), gain)
            ),
        )

    def __call__(self, x: Tensor) -> Tensor:
        both = self.inward(x)
        fused = kernels.chosen()
        if fused is not None:
            return self.down(fused.gated(both))
        gate, up = both.chunk(2, dim=-1)
        return self.down(F.silu(gate).mul_(up))


@dataclass(frozen=True)
class DecoderLayer:
    """One Qwen3 decoder layer."""

    attention_norm: Tensor
    attention: Attention
    feed_norm: Tensor
    feed: SwiGlu


@dataclass(frozen=True)
class DecoderStack:
    """The layers and final norm of the talker or of the code predictor."""

    config: TransformerConfig
    layers: tuple[DecoderLayer, ...]
    norm: Tensor

    @classmethod
    def load(cls, weights: Weights, prefix: str, config: TransformerConfig) -> DecoderStack:
        """Take the tensors under `prefix` (…model)."""
        layers = []
        for index in range(config.layers):
            layer = f"{prefix}.layers.{index}"
            layers.append(
                DecoderLayer(
                    attention_norm=weights.take(f"{layer}.input_layernorm.weight", config.hidden),
                    attention=Attention.load(weights, f"{layer}.self_attn", config, normed=True),
                    feed_norm=weights.take(f"{layer}.post_attention_layernorm.weight", config.hidden),
                    feed=SwiGlu.load(weights, f"{layer}.mlp", config),
                )
            )
        return cls(config, tuple(layers), weights.take(f"{prefix}.norm.weight", config.hidden))

    def forward(
        self, x: Tensor, rotary: Rotary, cache: Cache, mask: Tensor | Parts | None, normed: Tensor | None = None
    ) -> Tensor:
        """Normed hidden states (B, T, D) of inputs x (B, T, D); new keys and values go to `cache`.

        normed: x normed for the first layer, where that has been done.
        """
        eps = self.config.eps
        after = (*(layer.attention_norm for layer in self.layers[1:]), self.norm)
        if normed is None:
            normed = rms_norm(x, self.layers[0].attention_norm, eps)
        for index, layer in enumerate(self.layers):
            seen = layer.attention.over(normed, self.config, rotary, cache, index, mask)
            x, normed = add_norm(x, layer.attention.output(seen), layer.feed_norm, eps)
            x, normed = add_norm(x, layer.feed(normed), after[index], eps)
        return normed
