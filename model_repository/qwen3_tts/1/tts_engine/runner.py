"""Runs the networks over static buffers: prompts into slots, then one frame for every running slot at a time.

All state of an utterance lives in row `slot` of the buffers below; a step works on rows 0 … n-1, with nothing
allocated that outlives it, so a CUDA graph may capture it. A row that is held is computed with the others, but what
comes of it goes to a row of the buffers that nobody reads. Knows no requests and no threads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .audio import to_pcm16
from .checkpoint import Networks
from .config import CODEBOOKS, EngineConfig
from .kv_cache import KeyValueCache
from .model_config import ModelConfig, TransformerConfig
from .networks.layers import rotary_table
from .prefix_cache import Prefix, PrefixCache
from .prompt import REFERENCE, VOICE, Prompt
from .sampling import SamplingRows, uniforms
from .sampling_values import Sampling
from .voice_encoder import EncodedVoice

# Attention reads cached positions in whole blocks, so that the shapes of a step change rarely.
_BLOCK = 64


@dataclass(frozen=True)
class Frame:
    """What one step made, row by row: codes int64 (B, Q), pcm int16 (B, 1920), ended bool (B,).

    A row that has ended chose the end code: its codes and sound mean nothing; nor do those of a held row.
    """

    codes: npt.NDArray[np.int64]
    pcm: npt.NDArray[np.int16]
    ended: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Flight:
    """A step that has been started; its results are on their way to the host."""

    codes: Tensor
    pcm: Tensor
    ended: Tensor

    def land(self) -> Frame:
        """Wait for the step, and hand out what it made."""
        return Frame(self.codes.cpu().numpy(), self.pcm.cpu().numpy(), self.ended.cpu().numpy())


@dataclass(frozen=True)
class Prefilled:
    """A prompt that has been read and is in no slot yet.

    cache: its keys and values, in one slot of its own. hidden: (D,). trailing: (n, D), the text to be fed, and after
    it the padding when the text is complete. text: how many rows of trailing are text.
    """

    cache: KeyValueCache
    length: int
    hidden: Tensor
    trailing: Tensor
    text: int
    voice: EncodedVoice | None


@dataclass(frozen=True)
class Parked:
    """A copy of all that a slot holds of its utterance, apart from any slot."""

    tensors: list[Tensor]

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(tensor.nbytes for tensor in self.tensors)


class Runner:
    """The networks of a checkpoint with state for S slots. One thread may use it.

    ahead: how many steps are worth launching before the first of them has landed; 0 where a launch itself waits.
    """

    ahead: int = 0

    def __init__(
        self, networks: Networks, model: ModelConfig, engine: EngineConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._networks, self._model, self._device, self._dtype = networks, model, device, dtype
        slots, width = engine.slots, model.talker.hidden
        length = -(-engine.max_length // _BLOCK) * _BLOCK
        self._cache = self._allocate(model.talker, slots, length)
        self._frame_cache = self._allocate(model.predictor, slots, CODEBOOKS)
        self._rotary = rotary_table(length, model.talker.head_dim, model.talker.rope_theta, device, dtype)
        self._sampling = SamplingRows(slots, model, device)
        self._codec_state = networks.codec.allocate(slots, frames_per_call=1)
        self._rows = torch.arange(slots, device=device)
        # One row more than there are slots, for what comes of held rows.
        self._hidden = torch.zeros(slots + 1, width, device=device, dtype=dtype)
        self._positions = torch.zeros(slots + 1, dtype=torch.int64, device=device)
        self._frames = torch.zeros(slots + 1, dtype=torch.int64, device=device)
        text = engine.max_reference_text_tokens + engine.max_text_tokens + 2  # a transcript longer than its recording
        self._trailing = torch.zeros(slots, text, width, device=device, dtype=dtype)
        self._trailing_count = torch.zeros(slots, dtype=torch.int64, device=device)
        self.prefixes = PrefixCache(engine.prefix_cache_bytes)

    @torch.inference_mode()
    def prepare(self, prompt: Prompt, voice: EncodedVoice | None) -> Prefilled:
        """Read a prompt, but for a beginning that another has shared already."""
        length = len(prompt.text_ids)
        prefix = self._prefix(prompt, voice)
        cache = self._allocate(self._model.talker, 1, length)
        cache.load(0, prefix.keys, prefix.values)
        inputs = self._embed(prompt, voice, prompt.prefix, length)
        return Prefilled(
            cache=cache,
            length=length,
            hidden=self._networks.talker.prefill(inputs, self._rotary, cache, prompt.prefix),
            trailing=self._embed_trailing(prompt.trailing_ids, complete=prompt.complete),
            text=len(prompt.trailing_ids),
            voice=voice,
        )

    def prepare_many(self, wanted: Sequence[tuple[Prompt, EncodedVoice | None]]) -> list[Prefilled]:
        """Read several prompts."""
        return [self.prepare(prompt, voice) for prompt, voice in wanted]

    @torch.inference_mode()
    def enter(self, slot: int, prefilled: Prefilled, sampling: Sampling) -> None:
        """Start a generation in `slot`, whatever it held before."""
        self._cache.load(slot, prefilled.cache.keys[:, 0], prefilled.cache.values[:, 0])
        self._hidden[slot] = prefilled.hidden
        self._positions[slot] = prefilled.length
        self._frames[slot] = 0
        self._trailing[slot, : len(prefilled.trailing)] = prefilled.trailing
        self._trailing_count[slot] = prefilled.text
        self._sampling.admit(slot, sampling)
        stream = prefilled.voice.stream if prefilled.voice is not None else None
        if stream is not None:
            self._codec_state.put(slot, stream)
        else:
            self._codec_state.reset(slot)

    @torch.inference_mode()
    def extend(self, slot: int, count: int, ids: Sequence[int], *, complete: bool) -> None:
        """Lay out more text for `slot`, behind the `count` ids laid out so far."""
        trailing = self._embed_trailing(ids, complete=complete)
        self._trailing[slot, count : count + len(trailing)] = trailing
        self._trailing_count[slot] = count + len(ids)

    @torch.inference_mode()
    def launch(self, rows: int, longest: int, held: Collection[int]) -> Flight:
        """Start making the next frame of slots 0 … rows-1, but leave those in `held` as they are.

        longest: the most positions any of them has in use.
        """
        length = -(-(longest + 1) // _BLOCK) * _BLOCK
        targets = self._rows[:rows]
        if held:
            nobody = self._rows.shape[0]
            targets = torch.tensor([nobody if row in held else row for row in range(rows)], device=self._device)
        codes, pcm = self._step(rows, length, targets)
        ended = codes[:, 0] == self._model.ids.codec_eos
        return Flight(codes, pcm, ended)

    def move(self, source: int, target: int, length: int, trailing: int) -> None:
        """Copy slot `source`, with `length` positions in use and `trailing` ids laid out, to slot `target`."""
        self._cache.load(target, self._cache.keys[:, source, :, :length], self._cache.values[:, source, :, :length])
        self._sampling.move(source, target)
        self._codec_state.move(source, target)
        self._trailing[target, : trailing + 1] = self._trailing[source, : trailing + 1]
        for buffer in (self._hidden, self._positions, self._frames, self._trailing_count):
            buffer[target] = buffer[source]

    @torch.inference_mode()
    def park(self, slot: int, length: int, trailing: int) -> Parked:
        """Copy out what `slot` holds, with `length` positions in use and `trailing` ids laid out."""
        return Parked([part.clone() for part in self._parts(slot, length, trailing)])

    @torch.inference_mode()
    def unpark(self, slot: int, parked: Parked, length: int, trailing: int) -> None:
        """Go on in `slot` with what was copied out; length and trailing as they were then."""
        for part, kept in zip(self._parts(slot, length, trailing), parked.tensors, strict=True):
            part.copy_(kept)

    def _parts(self, slot: int, length: int, trailing: int) -> list[Tensor]:
        """Views of all that a later frame of `slot` may depend on."""
        cache, codec, sampling = self._cache, self._codec_state, self._sampling
        return [
            *(storage[:, slot, :, :length] for storage in (cache.keys, cache.values)),
            *(ring[:, slot] for ring in (codec.keys, codec.values)),
            *(tail[slot] for tail in (codec.frames, *codec.tails)),
            *(rows[slot] for rows in (*sampling.talker, *sampling.predictor)),
            *(rows[slot] for rows in (sampling.penalty, sampling.seed, sampling.seen)),
            *(rows[slot] for rows in (self._hidden, self._positions, self._frames, self._trailing_count)),
            self._trailing[slot, : trailing + 1],
        ]

    def _step(self, rows: int, length: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The whole frame step on the device: codes (B, Q) and pcm (B, 1920). targets (B,): see codec_layers."""
        talker, predictor = self._networks.talker, self._networks.predictor
        hidden, frames, positions = self._hidden[:rows], self._frames[:rows], self._positions[:rows]
        random = uniforms(self._sampling.seed[:rows], frames)
        first = self._sampling.first_codes(talker.logits(hidden), frames, random[:, 0], targets)

        def pick(scores: Tensor, codebook: int) -> Tensor:
            return self._sampling.predicted_codes(scores, random[:, codebook])

        codes = predictor.predict(hidden, first, self._frame_cache, pick)
        # A row that chose the end code is decoded too, with some other code: its sound is thrown away.
        sounded = codes.clamp(max=self._model.code_vocab - 1)[..., None]
        pcm = to_pcm16(self._networks.codec.decode(sounded, self._codec_state, targets))
        place = torch.minimum(frames, self._trailing_count[:rows])
        inputs = talker.embed_codes(first) + predictor.embed(codes) + self._trailing[self._rows[:rows], place]
        made = talker.step(inputs, self._rotary, self._cache, positions, length)
        self._hidden.index_copy_(0, targets, made)
        one = torch.ones_like(targets)
        self._positions.index_add_(0, targets, one)
        self._frames.index_add_(0, targets, one)
        return codes, pcm

    def _prefix(self, prompt: Prompt, voice: EncodedVoice | None) -> Prefix:
        """Keys and values of the prompt's beginning: kept from before, or read now and kept.

        It is always read apart from the rest, so that a prompt gives the same numbers whether it was kept or not.
        """
        end = prompt.prefix
        key = (prompt.text_ids[:end], prompt.codec_ids[:end], voice.key if voice is not None else None)
        known = self.prefixes.get(key)
        if known is not None:
            return known
        cache = self._allocate(self._model.talker, 1, end)
        self._networks.talker.prefill(self._embed(prompt, voice, 0, end), self._rotary, cache, 0)
        prefix = Prefix(cache.keys[:, 0], cache.values[:, 0])
        self.prefixes.put(key, prefix)
        return prefix

    def _embed(self, prompt: Prompt, voice: EncodedVoice | None, start: int, end: int) -> Tensor:
        """Talker inputs (T, D) of positions start … end-1: the sum of the two tracks."""
        talker = self._networks.talker
        text = torch.tensor(prompt.text_ids[start:end], device=self._device)
        codec = torch.tensor(prompt.codec_ids[start:end], device=self._device)
        inputs = talker.embed_text(text.clamp(min=0)) * (text >= 0)[:, None]
        inputs = inputs + talker.embed_codes(codec.clamp(min=0)) * (codec >= 0)[:, None]
        if voice is None:
            return inputs
        inputs[codec == VOICE] += voice.vector.to(self._dtype)
        if voice.codes is not None:
            first = sum(code == REFERENCE for code in prompt.codec_ids[:start])
            count = sum(code == REFERENCE for code in prompt.codec_ids[start:end])
            codes = voice.codes[first : first + count]
            inputs[codec == REFERENCE] += talker.embed_codes(codes[:, 0]) + self._networks.predictor.embed(codes)
        return inputs

    def _embed_trailing(self, ids: Sequence[int], *, complete: bool) -> Tensor:
        """Talker inputs (n, D) of text to be fed, and of the padding that follows a complete one."""
        laid = [*ids, self._model.ids.tts_pad] if complete else list(ids)
        return self._networks.talker.embed_text(torch.tensor(laid, dtype=torch.int64, device=self._device))

    def _allocate(self, config: TransformerConfig, slots: int, length: int) -> KeyValueCache:
        return KeyValueCache(
            layers=config.layers,
            slots=slots,
            kv_heads=config.kv_heads,
            length=length,
            head_dim=config.head_dim,
            device=self._device,
            dtype=self._dtype,
        )
