"""The parts of a frame step, each by itself: talker, code predictor, sampling, codec.

Together they are what frame_step.py does, with kernels as without: every launch of a step belongs to one of them, and
none to two (tests/benchmarks/test_parts.py). Buffers are their own. On a GPU each part is a CUDA graph (see timing.py),
so the parts add up to what the device does in a step and not to what the host needs to launch them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from benchmarks.frame_step import Place
from benchmarks.timing import Timing, timed
from tts_engine import kernels
from tts_engine.audio import PCM_SCALE, to_pcm16
from tts_engine.config import CODEBOOKS
from tts_engine.kernels.arguments import Entry
from tts_engine.landing import sheet_of
from tts_engine.networks.layers import rotary_table
from tts_engine.request import Speak
from tts_engine.sampling import SamplingRows, uniforms
from tts_engine.slot_state import new_cache, new_frame_cache

PARTS = ("talker", "predictor", "sampling", "codec")


class Parts:
    """Buffers for the parts of a step over `place.slots` rows that have `context` positions behind them."""

    def __init__(self, place: Place, context: int) -> None:
        self._place, self._networks = place, place.networks
        model, device, dtype, slots = place.checkpoint.model, place.device, place.dtype, place.slots
        self._end, talker = model.ids.codec_eos, model.talker
        self._length = context + 1
        self._cache = new_cache(talker, slots, self._length, device, dtype)
        self._frame_cache = new_frame_cache(model.predictor, slots, device, dtype)
        self._rotary = rotary_table(self._length, talker.head_dim, talker.rope_theta, device, dtype)
        self._codec = self._networks.codec.allocate(slots, frames_per_call=1)
        self._sampling = SamplingRows(slots, model, device)
        for slot in range(slots):
            self._sampling.admit(slot, Speak(text="", seed=slot).sampling(place.checkpoint.sampling))
        self._hidden = torch.randn(slots + 1, talker.hidden, device=device).to(dtype)
        self._positions = torch.full((slots,), context, device=device)
        # Counters that a step moves; what it reads of them stands still, so that each repetition is the same.
        self._moved = torch.zeros(2, slots + 1, dtype=torch.int64, device=device)
        self._frames, self._count = torch.full((2, slots), 100, device=device)
        self._text = torch.zeros(slots, 101, dtype=torch.int64, device=device)
        self._rows = torch.arange(slots, device=device)
        self._codes = torch.randint(model.code_vocab, (slots, CODEBOOKS), device=device)
        # With kernels scores are read as the product leaves them.
        kind = dtype if kernels.chosen() is not None else torch.promote_types(dtype, torch.float32)
        self._first_scores = torch.randn(slots, model.vocab, device=device).to(kind)
        self._scores = torch.randn(slots, model.code_vocab, device=device).to(kind)

    @torch.inference_mode()
    def time(self, part: str, rows: int, repeats: int) -> Timing:
        """Seconds of one of PARTS for the first `rows` rows."""
        return timed(lambda: self.run(part, rows), self._place.device, repeats=repeats, warm_up=2)

    def run(self, part: str, rows: int) -> Tensor:
        """One of PARTS for the first `rows` rows; what it makes for the next part."""
        fused = kernels.chosen()
        plain: dict[str, Callable[[int], Tensor]] = {
            "talker": self._talker,
            "predictor": self._predictor,
            "sampling": self._sample,
            "codec": self._decode,
        }
        if fused is None:
            return plain[part](rows)
        by_kernels: dict[str, Callable[[int, ModuleType], Tensor]] = {
            "talker": self._talker_by_kernels,
            "predictor": self._predictor_by_kernels,
            "sampling": self._sample_by_kernels,
            "codec": self._decode_by_kernels,
        }
        return by_kernels[part](rows, fused)

    def _talker(self, rows: int) -> Tensor:
        talker, predictor, codes = self._networks.talker, self._networks.predictor, self._codes[:rows]
        text = self._text[self._rows[:rows], torch.minimum(self._frames[:rows], self._count[:rows])]
        inputs = talker.embed_codes(codes[:, 0]) + predictor.embed(codes) + talker.embed_text(text)
        made = talker.step(inputs, self._rotary, self._cache, self._positions[:rows], self._length)
        self._hidden.index_copy_(0, self._rows[:rows], made)
        one = torch.ones_like(self._rows[:rows])
        for counter in self._moved:
            counter.index_add_(0, self._rows[:rows], one)
        return talker.logits(self._hidden[:rows])

    def _talker_by_kernels(self, rows: int, fused: ModuleType) -> Tensor:
        talker, targets = self._networks.talker, self._rows[:rows]
        text = fused.next_text(self._text[:rows], self._frames[:rows], self._count[:rows], talker.text_embedding)
        read, normed = talker.next_inputs(self._codes[:rows], self._networks.predictor.embeddings, text)
        made = talker.step_on(read, normed, self._rotary, self._cache, self._positions[:rows])
        fused.advance(targets, *self._moved, 1, made, self._hidden)
        return talker.head(self._hidden[:rows])

    def _predictor(self, rows: int) -> Tensor:
        """The passes without their choices, in whose place stand codes known beforehand."""

        def known(scores: Tensor, codebook: int) -> Tensor:
            return self._codes[:rows, codebook]

        predictor = self._networks.predictor
        return predictor.predict(self._hidden[:rows], self._codes[:rows, 0], self._frame_cache, known)

    def _predictor_by_kernels(self, rows: int, fused: ModuleType) -> Tensor:
        """The passes without their choices: what these would leave for the next pass is read as it lies there."""

        def left_out(scores: Tensor, codebook: int, entry: Entry | None) -> None:
            pass

        predictor, codes = self._networks.predictor, self._codes[:rows]
        inputs = self._hidden.new_zeros(rows, 2, predictor.first_inputs.shape[1])
        inputs[:, 0] = predictor.project(self._hidden[:rows])
        predictor.follow(inputs, codes, self._frame_cache, left_out)
        return codes

    def _sample(self, rows: int) -> Tensor:
        frames, targets = self._frames[:rows], self._rows[:rows]
        random = uniforms(self._sampling.seed[:rows], frames)
        shortlist = self._sampling.shortlist(rows) if self._place.device.type == "cpu" else 0
        codes = self._sampling.first_codes(self._first_scores[:rows], frames, random[:, 0], targets, shortlist)
        for codebook in range(1, CODEBOOKS):
            codes = self._sampling.predicted_codes(self._scores[:rows], random[:, codebook], shortlist)
        return codes

    def _sample_by_kernels(self, rows: int, fused: ModuleType) -> Tensor:
        predictor, frames, targets = self._networks.predictor, self._frames[:rows], self._rows[:rows]
        random = uniforms(self._sampling.seed[:rows], frames)
        codes = torch.empty(rows, CODEBOOKS, dtype=torch.int64, device=frames.device)
        inputs, normed = self._hidden.new_empty(2, rows, predictor.first_inputs.shape[1])
        first = Entry(predictor.first_inputs, inputs)
        self._sampling.begin(self._first_scores[:rows], frames, random[:, 0], targets, codes[:, 0], first)
        for codebook in range(1, CODEBOOKS):
            entry = predictor.entry(codebook, inputs, normed) if codebook + 1 < CODEBOOKS else None
            self._sampling.follow(self._scores[:rows], random[:, codebook], codes[:, codebook], entry)
        return codes

    def _decode(self, rows: int) -> Tensor:
        codes = self._codes[:rows]
        samples = self._networks.codec.decode(codes[..., None], self._codec, self._rows[:rows])
        return sheet_of(codes, to_pcm16(samples), codes[:, 0] == self._end)

    def _decode_by_kernels(self, rows: int, fused: ModuleType) -> Tensor:
        codes = self._codes[:rows]
        samples = self._networks.codec.sound(codes[..., None], self._codec, self._rows[:rows])
        sheet: Tensor = fused.sheet(samples, codes, self._end, PCM_SCALE)
        return sheet
