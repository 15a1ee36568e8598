"""The frame step: from the state of the first B slots, the next frame of each, and the state after it.

first codes → fifteen passes of the code predictor → codec → samples; the talker reads the frame. Runs on the device
alone: whatever it depends on, but for B and how far attention reads, stands in tensors that never move, so that
recorded once it may be repeated. Knows no request and no thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from . import kernels
from .audio import PCM_SCALE, to_pcm16
from .checkpoint import Networks
from .config import CODEBOOKS
from .kernels.arguments import Entry
from .landing import sheet_of
from .model_config import ModelConfig
from .networks.layers import Rotary
from .sampling import uniforms
from .slot_state import SlotState


@dataclass(frozen=True)
class FrameStep:
    """The networks over the state of all slots. rotary: the talker's table."""

    networks: Networks
    model: ModelConfig
    state: SlotState
    rotary: Rotary

    def __call__(self, rows: int, length: int, shortlist: int = 0) -> Tensor:
        """Make the next frame of slots 0 … rows-1: their sheet (see landing.py).

        length: how many positions attention reads where it has no kernel that asks the row; above every position.
        shortlist: how many of the best scores a choice looks at, where the host may wait for it; 0: all.
        """
        fused = kernels.chosen()
        if fused is not None:
            return self._by_kernels(rows, fused)
        talker, predictor, state = self.networks.talker, self.networks.predictor, self.state
        targets, hidden = state.targets[:rows], state.hidden[:rows]
        frames, positions = state.frames[:rows], state.positions[:rows]
        random = uniforms(state.sampling.seed[:rows], frames)
        first = state.sampling.first_codes(talker.logits(hidden), frames, random[:, 0], targets, shortlist)

        def pick(scores: Tensor, codebook: int) -> Tensor:
            return state.sampling.predicted_codes(scores, random[:, codebook], shortlist)

        codes = predictor.predict(hidden, first, state.frame_cache, pick)
        # A row that chose the end code is decoded too, with some other code: its sound is thrown away.
        sounded = codes.clamp(max=self.model.code_vocab - 1)[..., None]
        pcm = to_pcm16(self.networks.codec.decode(sounded, state.codec, targets))
        text = state.text[state.slots[:rows], torch.minimum(frames, state.count[:rows])]
        inputs = talker.embed_codes(first) + predictor.embed(codes) + talker.embed_text(text)
        made = talker.step(inputs, self.rotary, state.cache, positions, length)
        state.hidden.index_copy_(0, targets, made)
        one = torch.ones_like(targets)
        state.positions.index_add_(0, targets, one)
        state.frames.index_add_(0, targets, one)
        return sheet_of(codes, pcm, first == self.model.ids.codec_eos)

    def _by_kernels(self, rows: int, fused: ModuleType) -> Tensor:
        """The same in as few launches as there are products and what must stand between them."""
        talker, predictor, state = self.networks.talker, self.networks.predictor, self.state
        targets, hidden = state.targets[:rows], state.hidden[:rows]
        frames, positions = state.frames[:rows], state.positions[:rows]
        random = uniforms(state.sampling.seed[:rows], frames)
        codes = torch.empty(rows, CODEBOOKS, dtype=torch.int64, device=hidden.device)
        inputs = hidden.new_empty(rows, 2, predictor.first_inputs.shape[1])
        inputs[:, 0] = predictor.project(hidden)
        first = Entry(predictor.first_inputs, inputs[:, 1])
        state.sampling.begin(talker.head(hidden), frames, random[:, 0], targets, codes[:, 0], first)

        def choose(scores: Tensor, codebook: int, entry: Entry | None) -> None:
            state.sampling.follow(scores, random[:, codebook], codes[:, codebook], entry)

        predictor.follow(inputs, codes, state.frame_cache, choose)
        samples = self.networks.codec.sound(codes[..., None], state.codec, targets)
        text = fused.next_text(state.text[:rows], frames, state.count[:rows], talker.text_embedding)
        read, normed = talker.next_inputs(codes, predictor.embeddings, text)
        made = talker.step_on(read, normed, self.rotary, state.cache, positions)
        fused.advance(targets, state.positions, state.frames, 1, made, state.hidden)
        sheet: Tensor = fused.sheet(samples, codes, self.model.ids.codec_eos, PCM_SCALE)
        return sheet
