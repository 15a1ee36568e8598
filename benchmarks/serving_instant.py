"""An engine without networks, so that all that is around it can be loaded alone: `--instant`.

Everything of the real engine runs but its `Runner`, in whose place stands one that makes frames of a tone, as many as
the text is long. It is put in by the constructor; the product has no switch for it. Also writes down when each cancel
reached the engine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import torch

from benchmarks.serving_texts import CHARACTERS_PER_SECOND, sentences
from tts_engine import CODEBOOKS, SAMPLE_RATE, SAMPLES_PER_FRAME, Engine, EngineConfig, Sink, Speak, chunking
from tts_engine.checkpoint import Checkpoint
from tts_engine.kv_cache import KeyValueCache
from tts_engine.pace import Limits, Pace
from tts_engine.prompt import Prompt
from tts_engine.runner import Flight, Newcomer, Parked, Prefilled, Runner
from tts_engine.sampling_values import Sampling
from tts_engine.text import TextTokenizer
from tts_engine.voice_encoder import EncodedVoice
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import VoiceBook

PACE = "BENCHMARK_PACE"
"""Environment: how many frames each utterance gets in 80 ms, all in step; empty or 0 for as many as can be."""
CANCELS = "BENCHMARK_CANCELS"
"""Environment: a file that gets a line of JSON for each cancel: the utterance's seed, and the monotonic time."""
CHUNK = "BENCHMARK_LARGEST_CHUNK"
"""Environment: how many frames a response may carry at most; empty for as many as the product lets it."""
SLOTS = 64
"""Rows of a batch, where the number is left to the engine."""
FRAME_S = SAMPLES_PER_FRAME / SAMPLE_RATE
_TONE_HZ, _TONE_PEAK = 375.0, 8_000


@dataclass(frozen=True)
class _Read(Prefilled):
    """A prompt that was not read at all; frames: how long its text takes to be spoken."""

    frames: int = 0


@dataclass
class _Row:
    frames: int
    made: int = 0


@dataclass(frozen=True)
class _Due:
    """A step that takes as long as a device would."""

    at: float

    def wait(self) -> None:
        time.sleep(max(0.0, self.at - time.monotonic()))


@dataclass(frozen=True)
class _ParkedRow(Parked):
    row: _Row


class InstantRunner(Runner):
    """A runner whose frames are a tone; pace: frames of each row in 80 ms, None for no limit."""

    def __init__(self, frames_per_token: float, pace: float | None) -> None:
        self._frames_per_token, self._step_s = frames_per_token, 0.0 if pace is None else FRAME_S / pace
        self._utterances: dict[int, _Row] = {}
        self._landed = 0.0
        samples = np.arange(SAMPLES_PER_FRAME)
        wave = _TONE_PEAK * np.sin(2 * np.pi * _TONE_HZ * samples / SAMPLE_RATE)
        self._tone = torch.from_numpy(wave.astype(np.int16))

    def prepare_many(self, newcomers: Sequence[Newcomer]) -> list[Prefilled]:
        return [self._read(prompt, voice) for prompt, voice in newcomers]

    def _read(self, prompt: Prompt, voice: EncodedVoice | None) -> Prefilled:
        tokens = len(prompt.text_ids) - prompt.prefix + len(prompt.trailing_ids)
        return _Read(
            cache=_NO_CACHE,
            length=len(prompt.text_ids),
            hidden=torch.zeros(1),
            trailing=prompt.trailing_ids,
            text=len(prompt.trailing_ids),
            voice=voice,
            frames=self._length(tokens),
        )

    def enter(self, slot: int, prefilled: Prefilled, sampling: Sampling) -> None:
        assert isinstance(prefilled, _Read), "only what this runner has prepared"
        self._utterances[slot] = _Row(prefilled.frames)

    def extend(self, slot: int, count: int, ids: Sequence[int], *, complete: bool) -> None:
        self._utterances[slot].frames += self._length(len(ids))

    def launch(self, rows: int, longest: int, held: Collection[int]) -> Flight:
        codes = torch.zeros(rows, CODEBOOKS, dtype=torch.int64)
        ended = torch.tensor([self._utterances[slot].made >= self._utterances[slot].frames for slot in range(rows)])
        # A late step is caught up with, as by an engine that could be faster; after a rest the first one lands at once.
        rested = all(self._utterances[slot].made == 0 for slot in range(rows))
        self._landed = time.monotonic() if rested else self._landed + self._step_s
        for slot in set(range(rows)).difference(held):
            self._utterances[slot].made += 1
        return Flight(codes, self._tone.expand(rows, -1), ended, _Due(self._landed))

    def move(self, source: int, target: int, length: int, trailing: int) -> None:
        self._utterances[target] = self._utterances.pop(source)

    def park(self, slot: int, length: int, trailing: int) -> Parked:
        return _ParkedRow([self._tone], self._utterances[slot])

    def unpark(self, slot: int, parked: Parked, length: int, trailing: int) -> None:
        assert isinstance(parked, _ParkedRow), "only what this runner has parked"
        self._utterances[slot] = parked.row

    def _length(self, tokens: int) -> int:
        return max(1, round(tokens * self._frames_per_token))


_NO_CACHE = KeyValueCache(
    layers=1, slots=1, kv_heads=1, length=1, head_dim=1, device=torch.device("cpu"), dtype=torch.float32
)


class _RealTime(Pace):
    """Of an engine whose steps take a frame's time by decree: it keeps up with all its rows, and has no time left.

    What is measured would look like a device that is too slow, and most listeners would be made to wait.
    """

    def _limits(self, now: float) -> Limits:
        return Limits(self._slots, self._slots, self._slots / FRAME_S)


class InstantEngine(Engine):
    """The engine with that runner. Its pace, its chunks and where to note cancels come from the environment."""

    @classmethod
    def load(cls, checkpoint: Path, config: EngineConfig, voices: Path | None, *_: object, **__: object) -> Self:
        """As Engine.load, of whose checkpoint only config and tokenizer are read. It must not be one that clones."""
        config = replace(config, slots=config.slots or SLOTS)
        torch.set_num_threads(1)
        files = Checkpoint.read(checkpoint)
        book = VoiceBook(files.model, VoiceLibrary(voices), config.default_voice)
        pace = float(os.environ.get(PACE) or 0) or None
        chunking.LARGEST_CHUNK = int(os.environ.get(CHUNK) or chunking.LARGEST_CHUNK)
        runner = InstantRunner(_frames_per_token(TextTokenizer(files.folder, config.pretokenizer)), pace)
        engine = cls(files, config, book, runner, encoder=None)
        if pace == 1.0:
            engine._generation._pace = engine._admission._pace = _RealTime(config.slots)
        engine._placement = {"device": "none", "dtype": "none"}
        engine._seeds = {}
        engine._noting = threading.Lock()
        return engine

    def submit(self, speak: Speak, sink: Sink) -> int:
        utterance_id = super().submit(speak, sink)
        if speak.seed is not None:
            self._seeds[utterance_id] = speak.seed
        return utterance_id

    def cancel(self, utterance_id: int) -> None:
        now = time.monotonic()
        super().cancel(utterance_id)
        seed, path = self._seeds.pop(utterance_id, None), os.environ.get(CANCELS)
        if seed is not None and path:
            with self._noting, Path(path).open("a") as file:
                file.write(json.dumps({"seed": seed, "at": now}) + "\n")

    _seeds: dict[int, int]
    _noting: threading.Lock


def instant_model(model: Path) -> type[Any]:
    """The class TritonPythonModel of a model.py, whose engine is the one above."""
    module = _imported(model)
    module.Engine = InstantEngine  # type: ignore[attr-defined]
    found: type[Any] = module.TritonPythonModel
    return found


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("served_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _frames_per_token(tokenizer: TextTokenizer) -> float:
    texts = sentences()
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    return sum(map(len, texts)) / CHARACTERS_PER_SECOND / FRAME_S / tokens
