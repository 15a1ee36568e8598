"""The engine's own sizes, as config.pbtxt sets them, and the constants of the 12 Hz model family.

Dimensions of the networks come from the checkpoint and stand in model_config.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from .errors import SettingsError

SAMPLE_RATE = 24_000
SAMPLES_PER_FRAME = 1_920
FRAME_SECONDS = SAMPLES_PER_FRAME / SAMPLE_RATE
CODEBOOKS = 16


@dataclass(frozen=True)
class EngineConfig:
    """Sizes of the engine. Every field may be given as a `parameters` entry of config.pbtxt.

    slots: utterances that run together (rows of the batch).
    max_waiting: utterances that may wait for a slot before `Overloaded` is raised.
    max_text_tokens, max_instruct_tokens: longest text and style description, in tokens.
    max_frames: longest utterance, in frames of 80 ms.
    default_voice: id of the voice folder used when a request names no voice.
    pretokenizer: `qwen2` (as the hub id loads) or `mistral` (as transformers 4.57.3 patches a local directory).
    """

    slots: int = 16
    max_waiting: int = 64
    max_text_tokens: int = 2_048
    max_instruct_tokens: int = 512
    max_frames: int = 2_250
    default_voice: str = "makima"
    pretokenizer: str = "qwen2"

    def __post_init__(self) -> None:
        for name in ("slots", "max_text_tokens", "max_instruct_tokens", "max_frames"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_waiting < 0:
            raise SettingsError(f"max_waiting must not be negative, got {self.max_waiting}")
        if self.pretokenizer not in ("qwen2", "mistral"):
            raise SettingsError(f"pretokenizer must be 'qwen2' or 'mistral', got {self.pretokenizer!r}")

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
                raise SettingsError(f"parameter {key} must be a whole number, got {text!r}") from None
        return cls(**values)

    @property
    def max_prompt_length(self) -> int:
        """Positions the longest prompt takes: instruct and role markup (≤ 16), prefix (≤ 7), text, its end."""
        return self.max_instruct_tokens + self.max_text_tokens + 32

    @property
    def max_length(self) -> int:
        """Key/value positions a slot must hold."""
        return self.max_prompt_length + self.max_frames
