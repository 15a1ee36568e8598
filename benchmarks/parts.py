"""The parts of a frame step, each by itself: talker, code predictor, sampling, codec.

Calls the networks' public functions over buffers of its own. On a GPU each part is a CUDA graph (see timing.py), so
the parts add up to what the device does in a step and not to what the host needs to launch them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.frame_step import Place
from benchmarks.timing import Timing, timed
from tts_engine.audio import to_pcm16
from tts_engine.config import CODEBOOKS
from tts_engine.networks.layers import rotary_table
from tts_engine.request import Speak
from tts_engine.sampling import SamplingRows, uniforms
from tts_engine.slot_state import new_cache, new_frame_cache

PARTS = ("talker", "predictor", "sampling", "codec")


class Parts:
    """Buffers for the parts of a step over `place.slots` rows that have `context` positions behind them."""

    def __init__(self, place: Place, context: int) -> None:
        self._place, self._networks = place, place.networks
        model, device, dtype = place.checkpoint.model, place.device, place.dtype
        talker = model.talker
        self._length = context + 1
        self._cache = new_cache(talker, place.slots, self._length, device, dtype)
        self._frame_cache = new_frame_cache(model.predictor, place.slots, device, dtype)
        self._rotary = rotary_table(self._length, talker.head_dim, talker.rope_theta, device, dtype)
        self._state = self._networks.codec.allocate(place.slots, frames_per_call=1)
        self._sampling = SamplingRows(place.slots, model, device)
        for slot in range(place.slots):
            self._sampling.admit(slot, Speak(text="", seed=slot).sampling(place.checkpoint.sampling))
        self._hidden = torch.randn(place.slots, talker.hidden, device=device).to(dtype)
        self._positions = torch.full((place.slots,), context, device=device)
        self._frames = torch.full((place.slots,), 100, device=device)
        self._rows = torch.arange(place.slots, device=device)
        self._codes = torch.randint(model.code_vocab, (place.slots, CODEBOOKS), device=device)
        self._first_scores = torch.randn(place.slots, model.vocab, device=device)
        self._scores = torch.randn(place.slots, model.code_vocab, device=device)

    @torch.inference_mode()
    def time(self, part: str, rows: int, repeats: int) -> Timing:
        """Seconds of one of PARTS for the first `rows` rows."""
        parts: dict[str, Callable[[int], object]] = {
            "talker": self._talker,
            "predictor": self._predictor,
            "sampling": self._sample,
            "codec": self._decode,
        }
        run = parts[part]
        return timed(lambda: run(rows), self._place.device, repeats=repeats, warm_up=2)

    def _talker(self, rows: int) -> Tensor:
        talker = self._networks.talker
        made = talker.step(self._hidden[:rows], self._rotary, self._cache, self._positions[:rows], self._length)
        return talker.logits(made)

    def _predictor(self, rows: int) -> Tensor:
        def best(scores: Tensor, codebook: int) -> Tensor:
            return scores.argmax(-1)

        predictor = self._networks.predictor
        return predictor.predict(self._hidden[:rows], self._codes[:rows, 0], self._frame_cache, best)

    def _sample(self, rows: int) -> Tensor:
        frames, targets = self._frames[:rows], self._rows[:rows]
        random = uniforms(self._sampling.seed[:rows], frames)
        shortlist = self._sampling.shortlist(rows) if self._place.device.type == "cpu" else 0
        codes = self._sampling.first_codes(self._first_scores[:rows], frames, random[:, 0], targets, shortlist)
        for codebook in range(1, CODEBOOKS):
            codes = self._sampling.predicted_codes(self._scores[:rows], random[:, codebook], shortlist)
        return codes

    def _decode(self, rows: int) -> Tensor:
        return to_pcm16(self._networks.codec.decode(self._codes[:rows, :, None], self._state, self._rows[:rows]))
