"""The frame step: from the state of the first B slots, the next frame of each, and the state after it.

first codes → fifteen passes of the code predictor → codec → samples; the talker reads the frame. Runs on the device
alone: whatever it depends on, but for B and how far attention reads, stands in tensors that never move, so that
recorded once it may be repeated. Knows no request and no thread.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .audio import to_pcm16
from .checkpoint import Networks
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
