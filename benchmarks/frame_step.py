"""The frame step of the engine, and the reading of prompts, as the generation loop calls them.

Goes through Runner's own calls alone, so that whatever Runner does to be fast is measured with it.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import dataclass

import torch

from benchmarks.timing import Timing, synchronize
from tts_engine.checkpoint import Checkpoint, Networks
from tts_engine.config import EngineConfig
from tts_engine.prompt import Prompt
from tts_engine.request import Speak
from tts_engine.runner import Flight, Prefilled, Runner

KNOWN = 8
"""Positions at a prompt's beginning that are kept from utterance to utterance: about a role and a voice."""


@dataclass(frozen=True)
class Place:
    """What is measured: networks on a device, with room for `slots` prompts of `longest` positions and their frames."""

    checkpoint: Checkpoint
    networks: Networks
    device: torch.device
    dtype: torch.dtype
    slots: int
    longest: int
    frames: int

    @property
    def config(self) -> EngineConfig:
        """The smallest engine with that room."""
        return EngineConfig(
            slots=self.slots,
            max_text_tokens=64,
            max_instruct_tokens=1,
            max_reference_text_tokens=1,
            segment_tokens=self.longest,
            max_frames=self.frames,
        )


class Steps:
    """A runner whose slots can be filled with utterances of one length."""

    def __init__(self, place: Place, context: int) -> None:
        """context: positions of the utterances that fill the slots."""
        self._place, self._context = place, context
        self._model = place.checkpoint.model
        self._runner = Runner(place.networks, self._model, place.config, place.device, place.dtype)
        self._prefilled: Prefilled | None = None

    def time(self, rows: int, repeats: int, warm_up: int) -> Timing:
        """Seconds from frame to frame with the first `rows` slots speaking, as many steps ahead as Runner wants."""
        self._fill(rows)
        flights: deque[Flight] = deque()
        landed = []
        for step in range(warm_up + repeats + 1 + self._runner.ahead):
            flights.append(self._runner.launch(rows, self._context + step, ()))
            if len(flights) > self._runner.ahead:
                flights.popleft().land()
                landed.append(time.perf_counter())
        for flight in flights:
            flight.land()
        gaps = [after - before for before, after in itertools.pairwise(landed)]
        return Timing(tuple(gaps[warm_up : warm_up + repeats]))

    def time_prefill(self, rows: int, length: int, repeats: int) -> Timing:
        """Seconds to read `rows` prompts that come at once, their first KNOWN positions being kept from before."""
        device = self._place.device
        seconds = []
        for _ in range(repeats + 1):
            newcomers = [(self._prompt(length), None) for _ in range(rows)]
            synchronize(device)
            start = time.perf_counter()
            self._runner.prepare_many(newcomers)
            synchronize(device)
            seconds.append(time.perf_counter() - start)
        return Timing(tuple(seconds[1:]))

    def _fill(self, rows: int) -> None:
        if self._prefilled is None:
            self._prefilled = self._runner.prepare(self._prompt(self._context), None)
        for slot in range(rows):
            sampling = Speak(text="", seed=slot).sampling(self._place.checkpoint.sampling)
            self._runner.enter(slot, self._prefilled, sampling)

    def _prompt(self, length: int) -> Prompt:
        """A prompt of `length` positions; what they say makes no difference."""
        ids = self._model.ids
        text = [ids.tts_bos, *[ids.tts_pad] * (length - 1)]
        return Prompt(tuple(text), (ids.codec_pad,) * length, min(KNOWN, length - 1), (ids.tts_eos,))
