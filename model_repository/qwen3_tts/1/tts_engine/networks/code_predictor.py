"""The code predictor: an inner loop of one frame that turns a hidden state and a first code into all 16 codes.

Fifteen passes over a small decoder stack, with a key/value cache that lives for one frame. Input projections are
folded into the embedding tables when the weights are loaded, so no pass projects (upstream does, each time).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import CODEBOOKS
from ..kernels.arguments import Entry
from ..kv_cache import KeyValueCache
from ..model_config import ModelConfig
from ..weights import Weights
from .layers import DecoderStack, Rotary, rotary_table
from .linear import Linear


@dataclass(frozen=True)
class CodePredictor:
    """Weights of the code predictor.

    embeddings (15, V, D): codes of codebooks 1 … 15 at the talker's width, summed into its next input.
    inputs (15, V, Dp): the same codes as inputs of the predictor; first_inputs (V, Dp) those of codebook 0.
    heads: from Dp to V, one for each of them. projection is absent where talker and predictor have one width.
    """

    stack: DecoderStack
    embeddings: Tensor
    inputs: Tensor
    first_inputs: Tensor
    heads: tuple[Linear, ...]
    projection: Linear | None
    rotary: Rotary

    @classmethod
    def load(cls, weights: Weights, config: ModelConfig, codec_embedding: Tensor) -> CodePredictor:
        """Take the predictor's tensors; codec_embedding (V, D) is the talker's, whose codes are its first inputs."""
        prefix, width, narrow = "talker.code_predictor", config.talker.hidden, config.predictor.hidden
        rest = range(CODEBOOKS - 1)
        tables = [weights.take(f"{prefix}.model.codec_embedding.{i}.weight", config.code_vocab, width) for i in rest]
        heads = tuple(Linear.of(weights.take(f"{prefix}.lm_head.{i}.weight", config.code_vocab, narrow)) for i in rest)
        embeddings, first = torch.stack(tables), codec_embedding[: config.code_vocab]
        projection = None
        inputs, first_inputs = embeddings, first
        if width != narrow:
            weight = weights.take(f"{prefix}.small_to_mtp_projection.weight", narrow, width)
            bias = weights.take(f"{prefix}.small_to_mtp_projection.bias", narrow)
            projection = Linear.of(weight, bias)
            inputs, first_inputs = projection(embeddings), projection(first)
        stack = DecoderStack.load(weights, f"{prefix}.model", config.predictor)
        rotary = rotary_table(
            CODEBOOKS,
            config.predictor.head_dim,
            config.predictor.rope_theta,
            embeddings.device,
            embeddings.dtype,
        )
        return cls(stack, embeddings, inputs, first_inputs, heads, projection, rotary)

    def project(self, hidden: Tensor) -> Tensor:
        """Talker hidden states (B, D) as predictor inputs (B, Dp)."""
        return hidden if self.projection is None else self.projection(hidden)

    def predict(
        self, hidden: Tensor, first: Tensor, cache: KeyValueCache, pick: Callable[[Tensor, int], Tensor]
    ) -> Tensor:
        """All codes (B, Q) of a frame.

        hidden (B, D): what the first codes (B,) were sampled from. pick: scores (B, V), in at least float32, and
        the codebook they are of → codes (B,). cache: overwritten; its first B slots must hold 16 positions.
        """
        rows = first.shape[0]
        codes = [first]
        # A row that has just ended holds the end id, which is no code; its frame is thrown away.
        safe = first.clamp(max=self.first_inputs.shape[0] - 1)
        x = torch.stack((self.project(hidden), F.embedding(safe, self.first_inputs)), dim=1)
        position = 0
        mask = torch.ones(2, 2, dtype=torch.bool, device=x.device).tril()
        for codebook in range(1, CODEBOOKS):
            end = position + x.shape[1]
            view = cache.span(slice(0, rows), position)
            out = self.stack.forward(x, self.rotary.span(position, end), view, mask if position == 0 else None)
            scores = self.heads[codebook - 1](out[:, -1])
            codes.append(pick(scores.to(torch.promote_types(scores.dtype, torch.float32)), codebook))
            x = F.embedding(codes[-1], self.inputs[codebook - 1])[:, None]
            position = end
        return torch.stack(codes, dim=1)

    def follow(
        self, x: Tensor, codes: Tensor, cache: KeyValueCache, choose: Callable[[Tensor, int, Entry | None], object]
    ) -> None:
        """`predict` where kernels are in use: codes (B, Q), whose first are chosen, are filled up.

        x (B, 2, Dp): hidden states and first codes as inputs. choose: scores (B, V) of any dtype, the codebook they are
        of, and where the rows of the codes it chooses go, for the next pass.
        """
        normed, position = None, 0
        for codebook in range(1, CODEBOOKS):
            end = position + x.shape[1]
            view = cache.span(slice(0, codes.shape[0]), position)
            out = self.stack.forward(x, self.rotary.span(position, end), view, None, normed)
            entry, position = None, end
            if codebook + 1 < CODEBOOKS:
                x, normed = x.new_empty(2, codes.shape[0], 1, x.shape[2])
                entry = self.entry(codebook, x[:, 0], normed[:, 0])
            choose(self.heads[codebook - 1](out[:, -1]), codebook, entry)

    def entry(self, codebook: int, inputs: Tensor, normed: Tensor) -> Entry:
        """Where a choice of `codebook`, from 1 on, leaves what the next pass reads: rows (B, Dp) and their norm."""
        stack = self.stack
        return Entry(self.inputs[codebook - 1], inputs, stack.layers[0].attention_norm, normed, stack.config.eps)

    def embed(self, codes: Tensor) -> Tensor:
        """Sum (B, D), at the talker's width, of the embeddings of codes 1 … 15 of frames (B, Q)."""
        books = torch.arange(CODEBOOKS - 1, device=codes.device)
        return self.embeddings[books, codes[:, 1:]].sum(1)
