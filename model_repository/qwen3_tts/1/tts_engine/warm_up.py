"""What serving will ask of a GPU beside its steps, done once before anybody listens.

The first use of a kernel loads or compiles it, and the first of a size of memory asks the driver for it: both would
hold up all who are speaking. What is read and written here means nothing: whoever enters a slot finds no trace of it.
Knows no request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from .config import CODEBOOKS
from .model_config import ModelConfig
from .prefix_cache import PrefixCache
from .prompt import REFERENCE, VOICE, Prompt
from .prompt_reading import Newcomer, PromptReader
from .sampling_values import Sampling
from .slot_state import SlotState
from .voice_encoder import EncodedVoice

# Libraries choose among their kernels by how many positions are read; one and two go to kernels of our own.
_LENGTHS = (1, 2, 8, 30, 60, 120, 250, 500)
_BEGINNING = 8
_ANY = Sampling(0.9, 50, 1.0, 1.05, 0.9, 50, 1.0, seed=0)


def warm_up(reader: PromptReader, state: SlotState, model: ModelConfig) -> None:
    """Read prompts, alone and together; enter one, lay text, park it, bring it back and move it.

    On the thread's current stream, in slots that nobody has entered.
    """
    forgetful = replace(reader, prefixes=PrefixCache(0))
    newcomers = list(_newcomers(state, model))
    read = [forgetful.read(*newcomer) for newcomer in newcomers]
    read += forgetful.read_many(newcomers[:3])
    last = state.slots.shape[0] - 1
    for prefilled in (read[0], read[-1]):
        stream = prefilled.voice.stream if prefilled.voice is not None else None
        state.enter(0, prefilled.cache.keys[:, 0], prefilled.cache.values[:, 0], prefilled.hidden, _ANY, stream)
        state.lay(0, 0, prefilled.trailing, prefilled.text)
        state.unpark(0, state.park(0, prefilled.length, 1), prefilled.length, 1)
        if last > 0:
            state.move(0, last, prefilled.length, 1)


def _newcomers(state: SlotState, model: ModelConfig) -> Iterator[Newcomer]:
    """Prompts of several lengths, as far as a slot holds them; for a checkpoint that clones, in a cloned voice too."""
    ids, voice = model.ids, None
    if model.type == "base":
        like = state.hidden[0]
        codes = torch.zeros(_BEGINNING, CODEBOOKS, dtype=torch.int64, device=like.device)
        voice = EncodedVoice("", torch.zeros_like(like, dtype=torch.float32), codes, state.codec.take(0))
    for number, length in enumerate(n for n in _LENGTHS if _BEGINNING + n <= state.cache.length):
        codec = [ids.codec_pad] * (_BEGINNING + length)
        if voice is not None and number % 2:
            codec[:_BEGINNING] = [VOICE, *[REFERENCE] * (_BEGINNING - 1)]
        yield Prompt((ids.tts_pad,) * len(codec), tuple(codec), _BEGINNING, (ids.tts_pad,)), voice
