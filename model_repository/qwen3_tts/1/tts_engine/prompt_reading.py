"""Prompts into keys, values and a first hidden state: one at a time, or several in one pass without padding.

A prompt's shared beginning is always read apart from the rest, so that a kept voice gives the very numbers of a fresh
one. Knows no slot.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checkpoint import Networks
from .devices import upload
from .kv_cache import KeyValueCache
from .memory import PACK_POSITIONS
from .model_config import ModelConfig
from .networks.layers import Rotary
from .prefix_cache import Prefix, PrefixCache
from .prompt import REFERENCE, VOICE, Prompt
from .slot_state import new_cache
from .voice_encoder import EncodedVoice

Newcomer = tuple[Prompt, EncodedVoice | None]
"""A prompt, and the encoded voice it refers to."""


@dataclass(frozen=True)
class Prefilled:
    """A prompt that has been read and is in no slot yet.

    cache: its keys and values, in one slot of its own. hidden: (D,). trailing: the text ids to be fed, and after them
    the padding when the text is complete. text: how many ids of trailing are text.
    """

    cache: KeyValueCache
    length: int
    hidden: Tensor
    trailing: Sequence[int]
    text: int
    voice: EncodedVoice | None


@dataclass(frozen=True)
class PromptReader:
    """The networks as prompts are read by them. rotary: the talker's table. prefixes: beginnings that were read."""

    networks: Networks
    model: ModelConfig
    rotary: Rotary
    prefixes: PrefixCache
    device: torch.device
    dtype: torch.dtype

    def read(self, prompt: Prompt, voice: EncodedVoice | None) -> Prefilled:
        """Read one prompt."""
        prefix, length = self._prefix(prompt, voice), len(prompt.text_ids)
        cache = new_cache(self.model.talker, 1, length, self.device, self.dtype)
        cache.load(0, prefix.keys, prefix.values)
        inputs = self._embed([(prompt, voice)], [prompt.prefix], [length])
        hidden = self.networks.talker.prefill(inputs, self.rotary, cache, prompt.prefix)
        return self._prefilled(prompt, voice, cache, hidden)

    def read_many(self, newcomers: Sequence[Newcomer]) -> list[Prefilled]:
        """Read prompts, as many together as a pack may hold; in their order."""
        packs: list[list[Newcomer]] = []
        room = 0
        for newcomer in newcomers:
            length = len(newcomer[0].text_ids)
            if length > room:
                packs.append([])
                room = PACK_POSITIONS
            packs[-1].append(newcomer)
            room -= length
        return [read for pack in packs for read in self._read_pack(pack)]

    def _read_pack(self, pack: list[Newcomer]) -> list[Prefilled]:
        if len(pack) == 1:
            return [self.read(*pack[0])]
        starts = [prompt.prefix for prompt, _ in pack]
        lengths = [len(prompt.text_ids) for prompt, _ in pack]
        ends = [sum(lengths[: number + 1]) for number in range(len(pack))]
        cache = new_cache(self.model.talker, 1, ends[-1], self.device, self.dtype)
        parts = [cache.part(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        read: dict[Hashable, Prefix] = {}
        for newcomer, part in zip(pack, parts, strict=True):
            key = _prefix_key(*newcomer)
            if key not in read:
                read[key] = self._prefix(*newcomer)
            part.load(0, read[key].keys, read[key].values)
        spans = [range(start, length) for start, length in zip(starts, lengths, strict=True)]
        bases = [end - length for end, length in zip(ends, lengths, strict=True)]
        hidden = self.networks.talker.prefill_packed(
            self._embed(pack, starts, lengths),
            self.rotary,
            cache,
            positions=upload([position for span in spans for position in span], self.device),
            places=upload([base + at for base, span in zip(bases, spans, strict=True) for at in span], self.device),
            owners=upload([who for who, length in enumerate(lengths) for _ in range(length)], self.device),
        )
        lasts = [sum(map(len, spans[: number + 1])) - 1 for number in range(len(pack))]
        return [
            self._prefilled(*newcomer, part, hidden[last])
            for newcomer, part, last in zip(pack, parts, lasts, strict=True)
        ]

    def _prefilled(self, prompt: Prompt, voice: EncodedVoice | None, cache: KeyValueCache, hidden: Tensor) -> Prefilled:
        padding = (self.model.ids.tts_pad,) if prompt.complete else ()
        trailing = (*prompt.trailing_ids, *padding)
        return Prefilled(cache, len(prompt.text_ids), hidden, trailing, len(prompt.trailing_ids), voice)

    def _prefix(self, prompt: Prompt, voice: EncodedVoice | None) -> Prefix:
        """Keys and values of the prompt's beginning: kept from before, or read now and kept."""
        key, end = _prefix_key(prompt, voice), prompt.prefix
        known = self.prefixes.get(key)
        if known is not None:
            return known
        cache = new_cache(self.model.talker, 1, end, self.device, self.dtype)
        self.networks.talker.prefill(self._embed([(prompt, voice)], [0], [end]), self.rotary, cache, 0)
        prefix = Prefix(cache.keys[:, 0], cache.values[:, 0])
        self.prefixes.put(key, prefix)
        return prefix

    def _embed(self, pack: Sequence[Newcomer], starts: Sequence[int], ends: Sequence[int]) -> Tensor:
        """Talker inputs (T, D) of positions start … end-1 of each prompt, end to end: the sum of the two tracks."""
        talker, spans = self.networks.talker, list(zip(pack, starts, ends, strict=True))
        text = upload([i for (prompt, _), start, end in spans for i in prompt.text_ids[start:end]], self.device)
        codec_ids = [i for (prompt, _), start, end in spans for i in prompt.codec_ids[start:end]]
        codec = upload(codec_ids, self.device)
        inputs = talker.embed_text(text.clamp(min=0)) * (text >= 0)[:, None]
        inputs = inputs + talker.embed_codes(codec.clamp(min=0)) * (codec >= 0)[:, None]
        base = 0
        for (prompt, voice), start, end in spans:
            if voice is not None:
                self._add_voice(inputs[base : base + end - start], prompt, voice, start)
            base += end - start
        return inputs

    def _add_voice(self, inputs: Tensor, prompt: Prompt, voice: EncodedVoice, start: int) -> None:
        """Add what a recording gives to inputs (T, D) of the prompt's positions from `start` on.

        The places are found in the ids on the host: to look for them on the device would be to wait for it.
        """
        ids = prompt.codec_ids[start : start + len(inputs)]
        vector_at = [at for at, code in enumerate(ids) if code == VOICE]
        if vector_at:
            inputs.index_add_(0, upload(vector_at, self.device), voice.vector.to(self.dtype).expand(len(vector_at), -1))
        codes_at = [at for at, code in enumerate(ids) if code == REFERENCE]
        if codes_at and voice.codes is not None:
            first = sum(code == REFERENCE for code in prompt.codec_ids[:start])
            codes = voice.codes[first : first + len(codes_at)]
            embedded = self.networks.talker.embed_codes(codes[:, 0]) + self.networks.predictor.embed(codes)
            inputs.index_add_(0, upload(codes_at, self.device), embedded)


def _prefix_key(prompt: Prompt, voice: EncodedVoice | None) -> Hashable:
    end = prompt.prefix
    return prompt.text_ids[:end], prompt.codec_ids[:end], voice.key if voice is not None else None
