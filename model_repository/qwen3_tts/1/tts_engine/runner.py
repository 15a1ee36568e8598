"""Runs the networks over static buffers: prompts into slots, then one frame for every running slot at a time.

All state of an utterance lives in row `slot` of slot_state.py; a step works on rows 0 … n-1. A row that is held is
computed with the others, but what comes of it goes to a row that nobody reads. On a GPU everything runs on one stream
in the order it is asked for, nothing here waits for it, and a step is the replay of a recording. Knows no requests and
no threads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from .checkpoint import Networks
from .config import EngineConfig
from .errors import CheckpointError
from .frame_graphs import FrameGraphs
from .frame_step import FrameStep
from .landing import Flight, Frame, LandingRing
from .memory import BLOCK
from .model_config import ModelConfig
from .networks.layers import rotary_table
from .prefix_cache import PrefixCache
from .prompt import Prompt
from .prompt_reading import Newcomer, Prefilled, PromptReader
from .sampling_values import Sampling
from .slot_state import Parked, SlotState
from .voice_encoder import EncodedVoice
from .warm_up import warm_up

__all__ = ["Flight", "Frame", "Newcomer", "Parked", "Prefilled", "Runner"]

_MOST_IDS = 1 << 15


class Runner:
    """The networks of a checkpoint with state for S slots. One thread may use it.

    ahead: how many steps are worth launching before the first of them has landed; 0 where a launch itself waits. Rows
    of a step launched ahead may have ended in the one before: they are computed once more, and it means nothing. Every
    step must be landed, in order, before more than `ahead` others are launched.
    """

    ahead: int = 0

    def __init__(
        self, networks: Networks, model: ModelConfig, engine: EngineConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Raises CheckpointError for a vocabulary whose ids do not fit a sheet (see landing.py)."""
        if model.vocab > _MOST_IDS:
            raise CheckpointError(f"the talker's vocabulary may have up to {_MOST_IDS} ids, this one has {model.vocab}")
        self._model = model
        self.state = SlotState.allocate(model, engine, networks.codec, device, dtype)
        self.prefixes = PrefixCache(engine.prefix_cache_bytes)
        head, theta = model.talker.head_dim, model.talker.rope_theta
        rotary = rotary_table(self.state.cache.length, head, theta, device, dtype)
        self.step = FrameStep(networks, model, self.state, rotary)
        self._reader = PromptReader(networks, model, rotary, self.prefixes, device, dtype)
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._record(engine.slots, device)

    def _record(self, slots: int, device: torch.device) -> None:
        self.ahead = 1
        self._stream = torch.cuda.Stream(device)
        torch.cuda.synchronize(device)  # weights and buffers were made on another stream
        with self._on_stream(), torch.inference_mode():
            # Without the runner in it: the memory of an engine that is gone would wait for a search for circles.
            step, length = self.step, self.state.cache.length
            self._graphs = FrameGraphs(lambda rows: step(rows, length), slots, device)
            self._ring = LandingRing(slots, self.ahead + 2, device)
            # Last, since a recording gives back all memory that is not in use, pinned memory too.
            warm_up(self._reader, self.state, self._model)
        torch.cuda.synchronize(device)  # what fails on the device must fail here, not at a first utterance

    def _on_stream(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream) if self._stream is not None else nullcontext()

    def prepare(self, prompt: Prompt, voice: EncodedVoice | None) -> Prefilled:
        """Read a prompt, but for a beginning that another has shared already."""
        return self.prepare_many([(prompt, voice)])[0]

    @torch.inference_mode()
    def prepare_many(self, newcomers: Sequence[Newcomer]) -> list[Prefilled]:
        """Read prompts together, each but for a beginning that another has shared already."""
        with self._on_stream():
            for _, voice in newcomers:
                if voice is not None:
                    voice.used_by_current_stream()
            return self._reader.read_many(newcomers)

    @torch.inference_mode()
    def enter(self, slot: int, prefilled: Prefilled, sampling: Sampling) -> None:
        """Start a generation in `slot`, whatever it held before."""
        cache, voice = prefilled.cache, prefilled.voice
        with self._on_stream():
            stream = voice.stream if voice is not None else None
            self.state.enter(slot, cache.keys[:, 0], cache.values[:, 0], prefilled.hidden, sampling, stream)
            self.state.lay(slot, 0, prefilled.trailing, prefilled.text)

    @torch.inference_mode()
    def extend(self, slot: int, count: int, ids: Sequence[int], *, complete: bool) -> None:
        """Lay out more text for `slot`, behind the `count` ids laid out so far."""
        padding = (self._model.ids.tts_pad,) if complete else ()
        with self._on_stream():
            self.state.lay(slot, count, (*ids, *padding), count + len(ids))

    @torch.inference_mode()
    def launch(self, rows: int, longest: int, held: Collection[int]) -> Flight:
        """Start making the next frame of slots 0 … rows-1, but leave those in `held` as they are.

        longest: the most positions any of them has in use.
        """
        nobody = self.state.slots.shape[0]
        targets = [nobody if row in held else row for row in range(rows)]
        if self._stream is None:
            self.state.targets[:rows] = torch.tensor(targets)
            length = -(-(longest + 1) // BLOCK) * BLOCK
            return Flight.of(self.step(rows, length, self.state.sampling.shortlist(rows)))
        with self._on_stream():
            size = self._graphs.size_for(rows)
            berth = self._ring.take()
            berth.targets[:size] = torch.tensor(targets + [nobody] * (size - rows))
            self.state.targets[:size].copy_(berth.targets[:size], non_blocking=True)
            return self._ring.send(berth, self._graphs.replay(size)[:rows])

    @torch.inference_mode()
    def move(self, source: int, target: int, length: int, trailing: int) -> None:
        """Copy slot `source`, with `length` positions in use and `trailing` ids laid out, to slot `target`.

        A step that has been launched and not landed has used one position more.
        """
        with self._on_stream():
            self.state.move(source, target, length + self.ahead, trailing)

    @torch.inference_mode()
    def park(self, slot: int, length: int, trailing: int) -> Parked:
        """Copy out what `slot` holds, with `length` positions in use and `trailing` ids laid out."""
        with self._on_stream():
            return self.state.park(slot, length, trailing)

    @torch.inference_mode()
    def unpark(self, slot: int, parked: Parked, length: int, trailing: int) -> None:
        """Go on in `slot` with what was copied out; length and trailing as they were then."""
        with self._on_stream():
            self.state.unpark(slot, parked, length, trailing)
