"""The engine's own sizes, as config.pbtxt sets them, and the constants of the 12 Hz model family.

Dimensions of the networks come from the checkpoint and stand in model_config.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from .errors import SettingsError

SAMPLE_RATE = 24_000
SAMPLES_PER_FRAME = 1_920
FRAME_SECONDS = SAMPLES_PER_FRAME / SAMPLE_RATE
CODEBOOKS = 16

_MARKUP_TOKENS = 16
_PREFIX_POSITIONS = 8
_MAX_REFERENCE_FRAMES = 376
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class EngineConfig:
    """Sizes of the engine. Every field may be given as a `parameters` entry of config.pbtxt.

    slots: utterances that run together (rows of the batch); 0 is as many as fit the GPU, or 16 on a CPU.
    max_slots: the most there may be when as many as fit are asked for.
    max_waiting: utterances that may wait for a slot before `Overloaded` is raised.
    max_wait_seconds: it is raised too when a slot would come later than that, as far as can be told; 0: never.
    parked_mb: memory for the state of utterances whose listeners have sound in hand, so that others can use their
    slots meanwhile; 0: whoever has a slot keeps it.
    max_text_tokens: longest text of an utterance, live text included.
    segment_tokens: text beyond this is cut at sentence ends and spoken in several generations.
    max_instruct_tokens, max_reference_text_tokens: longest style description and transcript.
    max_frames: longest generation, in frames of 80 ms. max_total_frames: longest utterance, of all its segments.
    text_idle_seconds: how long live text may keep the talker waiting before the utterance is ended.
    voice_cache_mb, prefix_cache_mb: memory for encoded voices and for shared prompt beginnings.
    default_voice: id of the voice folder used when a request names no voice.
    codec_precision: `float32`; `bfloat16`, which on a CPU halves what most of the codec costs, for noise some 40 dB
    below the sound; or `auto`, the latter on a CPU where the talker is bfloat16 too.
    pretokenizer: `qwen2` (as the hub id loads) or `mistral` (as transformers 4.57.3 patches a local directory).
    """

    slots: int = 0
    max_slots: int = 256
    max_waiting: int = 64
    max_wait_seconds: float = 30.0
    parked_mb: int = 1_024
    max_text_tokens: int = 4_096
    segment_tokens: int = 200
    max_instruct_tokens: int = 512
    max_reference_text_tokens: int = 512
    max_frames: int = 2_250
    max_total_frames: int = 11_250
    text_idle_seconds: float = 10.0
    voice_cache_mb: int = 512
    prefix_cache_mb: int = 512
    default_voice: str = "makima"
    codec_precision: str = "auto"
    pretokenizer: str = "qwen2"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise SettingsError(f"{field.name} must be a finite number, got {value}")
            if isinstance(value, int | float) and value <= 0 and field.name not in _MAY_BE_ZERO:
                raise SettingsError(f"{field.name} must be above 0, got {value}")
            if isinstance(value, int | float) and value < 0:
                raise SettingsError(f"{field.name} must not be negative, got {value}")
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise SettingsError(f"{name} must be {' or '.join(map(repr, words))}, got {getattr(self, name)!r}")

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> Self:
        """Read Triton's string parameters.

        Raises SettingsError for an unknown key (the message lists the known ones) and for a bad number.
        """
        kinds: dict[str, type] = {field.name: type(field.default) for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, text in parameters.items():
            if key not in kinds:
                raise SettingsError(f"unknown parameter {key!r}; known: {', '.join(sorted(kinds))}")
            try:
                values[key] = kinds[key](text)
            except ValueError:
                raise SettingsError(f"parameter {key} must be of type {kinds[key].__name__}, got {text!r}") from None
        return cls(**values)

    @property
    def max_prompt_length(self) -> int:
        """Positions the longest prompt takes: style and markup, prefix, transcript and text, reference frames."""
        words = self.max_instruct_tokens + self.max_reference_text_tokens + self.segment_tokens
        return words + _MARKUP_TOKENS + _PREFIX_POSITIONS + _MAX_REFERENCE_FRAMES

    @property
    def max_length(self) -> int:
        """Key/value positions a slot must hold."""
        return self.max_prompt_length + self.max_frames

    @property
    def voice_cache_bytes(self) -> int:
        """voice_cache_mb in bytes."""
        return self.voice_cache_mb * _MEGABYTE

    @property
    def prefix_cache_bytes(self) -> int:
        """prefix_cache_mb in bytes."""
        return self.prefix_cache_mb * _MEGABYTE

    @property
    def parked_bytes(self) -> int:
        """parked_mb in bytes."""
        return self.parked_mb * _MEGABYTE


_MAY_BE_ZERO = frozenset(("slots", "max_waiting", "max_wait_seconds", "parked_mb", "voice_cache_mb", "prefix_cache_mb"))
_WORDS = {"codec_precision": ("auto", "float32", "bfloat16"), "pretokenizer": ("qwen2", "mistral")}
