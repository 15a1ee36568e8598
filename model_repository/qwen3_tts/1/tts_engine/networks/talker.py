"""The talker: the language model that turns a prompt into one first code and one hidden state per frame.

Source: Qwen3-TTS technical report (arXiv 2601.15621), checked against qwen-tts 0.1.1. The three position tracks
of its multimodal rotary embedding are always equal, so plain rotary embedding is the same function.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import kernels
from ..kv_cache import KeyValueCache
from ..model_config import ModelConfig
from ..weights import Weights
from .attending import Parts
from .layers import DecoderStack, Rotary
from .linear import Linear


@dataclass(frozen=True)
class Talker:
    """Weights of the talker, its two embeddings and its head."""

    stack: DecoderStack
    codec_embedding: Tensor
    text_embedding: Tensor
    text_in: Linear
    text_out: Linear
    head: Linear

    @classmethod
    def load(cls, weights: Weights, config: ModelConfig) -> Talker:
        """Take the talker's tensors; those of the code predictor stay."""
        width, wide = config.talker.hidden, config.text_hidden
        return cls(
            stack=DecoderStack.load(weights, "talker.model", config.talker),
            codec_embedding=weights.take("talker.model.codec_embedding.weight", config.vocab, width),
            text_embedding=weights.take("talker.model.text_embedding.weight", config.text_vocab, wide),
            text_in=Linear.load(weights, "talker.text_projection.linear_fc1", wide, wide),
            text_out=Linear.load(weights, "talker.text_projection.linear_fc2", width, wide),
            head=Linear.of(weights.take("talker.codec_head.weight", config.vocab, width)),
        )

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text ids (…) as talker inputs (…, D)."""
        return self.text_out(F.silu(self.text_in(F.embedding(ids, self.text_embedding))))

    def next_inputs(self, codes: Tensor, tables: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Where kernels are in use: the inputs (B, 1, D) that follow a frame's codes (B, Q), and their first norm.

        tables (Q-1, V, D): the code predictor's embeddings. text (B, n'): rows of the text embedding.
        """
        fused = kernels.chosen()
        assert fused is not None, "asked of kernels that are not in use"
        projected = self.text_out(F.silu(self.text_in(text)))
        first = self.stack.layers[0].attention_norm
        made: tuple[Tensor, Tensor] = fused.next_inputs(
            codes, self.codec_embedding, tables, projected, first, self.stack.config.eps
        )
        return made

    def embed_codes(self, ids: Tensor) -> Tensor:
        """Ids of the codec vocabulary (…) as talker inputs (…, D)."""
        return F.embedding(ids, self.codec_embedding)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (B, V) of the next first code, in at least float32, of hidden states (B, D)."""
        scores = self.head(hidden)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def prefill(self, x: Tensor, rotary: Rotary, cache: KeyValueCache, start: int) -> Tensor:
        """Read inputs x (T, D) from position `start` on, into slot 0 of `cache`, which holds what precedes them.

        Returns the last hidden state (D,).
        """
        end = start + x.shape[0]
        mask = torch.ones(x.shape[0], end, dtype=torch.bool, device=x.device).tril(start)
        view = cache.span(slice(0, 1), start)
        return self.stack.forward(x[None], rotary.span(start, end), view, mask)[0, -1]

    def prefill_packed(
        self, x: Tensor, rotary: Rotary, cache: KeyValueCache, positions: Tensor, places: Tensor, owners: Tensor
    ) -> Tensor:
        """Read inputs x (T, D) of several prompts at once; `cache` holds them end to end in its only slot.

        positions (T,): each input's in its prompt. places (T,): where in the cache its keys go. owners (T_all,): whose
        each place of the cache is. An input looks at its own prompt's places up to its own. Returns hidden states
        (T, D).
        """
        mask: Tensor | Parts
        if x.device.type == "cpu":
            mask = Parts.of(owners, places)
        else:
            mine = owners == owners[places][:, None]
            mask = mine & (torch.arange(owners.shape[0], device=x.device) <= places[:, None])
        return self.stack.forward(x[None], rotary.at(positions[None]), cache.packed(places), mask)[0]

    def step(self, x: Tensor, rotary: Rotary, cache: KeyValueCache, positions: Tensor, length: int) -> Tensor:
        """Read one input per row, x (B, D), at `positions` (B,); returns hidden states (B, D).

        length: how many cached positions attention reads; must exceed every position. The kernel, where it is in use,
        reads each row up to its own position instead.
        """
        if kernels.chosen() is not None:
            return self.step_on(x[:, None], None, rotary, cache, positions)
        seen = (torch.arange(length, device=x.device) <= positions[:, None])[:, None, None]
        return self.stack.forward(x[:, None], rotary.at(positions[:, None]), cache.step(positions, length), seen)[:, 0]

    def step_on(
        self, x: Tensor, normed: Tensor | None, rotary: Rotary, cache: KeyValueCache, positions: Tensor
    ) -> Tensor:
        """`step` where kernels are in use, on x (B, 1, D), which may have been normed for the first layer."""
        return self.stack.forward(x, rotary, cache.step(positions, cache.length), None, normed)[:, 0]
