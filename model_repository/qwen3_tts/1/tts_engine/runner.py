"""Runs the networks over static buffers: a prompt into a slot, then one frame for every running slot at a time.

All state of an utterance lives in row `slot` of the buffers below; a step works on rows 0 … n-1, with nothing
allocated that outlives it, so a CUDA graph may capture it. Knows no requests and no threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .audio import to_pcm16
from .checkpoint import Networks
from .config import CODEBOOKS, EngineConfig
from .kv_cache import KeyValueCache
from .model_config import ModelConfig, TransformerConfig
from .networks.layers import rotary_table
from .prompt import NOTHING, Prompt
from .sampling import Sampling, SamplingRows, uniforms

# Attention reads cached positions in whole blocks, so that the shapes of a step change rarely.
_BLOCK = 64


@dataclass(frozen=True)
class Frame:
    """What one step made, row by row: codes int64 (B, Q), pcm int16 (B, 1920), ended bool (B,).

    A row that has ended chose the end code: its codes and sound mean nothing.
    """

    codes: npt.NDArray[np.int64]
    pcm: npt.NDArray[np.int16]
    ended: npt.NDArray[np.bool_]


class Runner:
    """The networks of a checkpoint with state for S slots. One thread may use it."""

    def __init__(
        self,
        networks: Networks,
        model: ModelConfig,
        engine: EngineConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._networks, self._eos = networks, model.ids.codec_eos
        self._tts_pad = model.ids.tts_pad
        self._code_limit = model.code_vocab - 1
        self._device = device
        slots, width = engine.slots, model.talker.hidden

        def cache(config: TransformerConfig, length: int) -> KeyValueCache:
            return KeyValueCache(
                layers=config.layers,
                slots=slots,
                kv_heads=config.kv_heads,
                length=length,
                head_dim=config.head_dim,
                device=device,
                dtype=dtype,
            )

        length = -(-engine.max_length // _BLOCK) * _BLOCK
        self._cache = cache(model.talker, length)
        self._frame_cache = cache(model.predictor, CODEBOOKS)
        self._rotary = rotary_table(length, model.talker.head_dim, model.talker.rope_theta, device, dtype)
        self._sampling = SamplingRows(slots, model, device)
        self._codec_state = networks.codec.allocate(slots, frames_per_call=1)
        self._hidden = torch.zeros(slots, width, device=device, dtype=dtype)
        self._positions = torch.zeros(slots, dtype=torch.int64, device=device)
        self._frames = torch.zeros(slots, dtype=torch.int64, device=device)
        self._trailing = torch.zeros(slots, engine.max_text_tokens + 1, width, device=device, dtype=dtype)
        self._trailing_count = torch.zeros(slots, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def prefill(self, slot: int, prompt: Prompt, sampling: Sampling) -> None:
        """Read a prompt into `slot`, whatever it held before."""
        talker = self._networks.talker
        inputs = self._embed(prompt)
        count = len(prompt.trailing_ids)
        self._hidden[slot] = talker.prefill(inputs, self._rotary, self._cache, slot)
        self._positions[slot] = inputs.shape[0]
        self._frames[slot] = 0
        # The padding token follows the text for ever: it is the one row every later frame reads.
        trailing = torch.tensor([*prompt.trailing_ids, self._tts_pad], device=self._device)
        self._trailing[slot, : count + 1] = talker.embed_text(trailing)
        self._trailing_count[slot] = count
        self._sampling.admit(slot, sampling)
        self._codec_state.reset(slot)

    @torch.inference_mode()
    def frame(self, rows: int, longest: int) -> Frame:
        """Make the next frame of slots 0 … rows-1; `longest` is the most positions any of them has in use."""
        length = -(-(longest + 1) // _BLOCK) * _BLOCK
        codes, pcm = self._step(rows, length)
        ended = codes[:, 0] == self._eos
        return Frame(codes.cpu().numpy(), pcm.cpu().numpy(), ended.cpu().numpy())

    def move(self, source: int, target: int, length: int) -> None:
        """Copy all state of slot `source`, which has `length` positions in use, to slot `target`."""
        self._cache.move(source, target, length)
        self._sampling.move(source, target)
        self._codec_state.move(source, target)
        for buffer in (self._hidden, self._positions, self._frames, self._trailing, self._trailing_count):
            buffer[target] = buffer[source]

    def _step(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """The whole frame step on the device: codes (B, Q) and pcm (B, 1920)."""
        talker, predictor = self._networks.talker, self._networks.predictor
        hidden, frames, positions = self._hidden[:rows], self._frames[:rows], self._positions[:rows]
        random = uniforms(self._sampling.seed[:rows], frames)
        first = self._sampling.first_codes(talker.logits(hidden), frames, random[:, 0])

        def pick(scores: Tensor, codebook: int) -> Tensor:
            return self._sampling.predicted_codes(scores, random[:, codebook])

        codes = predictor.predict(hidden, first, self._frame_cache, pick)
        pcm = to_pcm16(self._networks.codec.decode(codes.clamp(max=self._code_limit)[..., None], self._codec_state))
        place = torch.minimum(frames, self._trailing_count[:rows])
        text = self._trailing[torch.arange(rows, device=self._device), place]
        inputs = talker.embed_codes(first) + predictor.embed(codes) + text
        hidden.copy_(talker.step(inputs, self._rotary, self._cache, positions, length))
        positions += 1
        frames += 1
        return codes, pcm

    def _embed(self, prompt: Prompt) -> Tensor:
        """Talker inputs (T, D) of a prompt: the sum of its two tracks."""
        talker = self._networks.talker
        text = torch.tensor(prompt.text_ids, device=self._device)
        codec = torch.tensor(prompt.codec_ids, device=self._device)
        embedded = talker.embed_text(text.clamp(min=0)) * (text != NOTHING)[:, None]
        return embedded + F.embedding(codec.clamp(min=0), talker.codec_embedding) * (codec != NOTHING)[:, None]
