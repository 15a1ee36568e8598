"""The Qwen3-TTS engine: text and a voice in, frames of speech out, many utterances at once."""

from .acceleration import Acceleration
from .config import CODEBOOKS, SAMPLE_RATE, SAMPLES_PER_FRAME, EngineConfig
from .counts import Statistics
from .delivery import Delivery
from .engine import Engine
from .errors import (
    CheckpointError,
    EngineFailed,
    InvalidRequest,
    LoadError,
    Overloaded,
    SettingsError,
    TtsError,
    UnknownVoice,
    Unsupported,
)
from .request import Outcome, Sink, Speak, SpokenSegment

__all__ = [
    "CODEBOOKS",
    "SAMPLES_PER_FRAME",
    "SAMPLE_RATE",
    "Acceleration",
    "CheckpointError",
    "Delivery",
    "Engine",
    "EngineConfig",
    "EngineFailed",
    "InvalidRequest",
    "LoadError",
    "Outcome",
    "Overloaded",
    "SettingsError",
    "Sink",
    "Speak",
    "SpokenSegment",
    "Statistics",
    "TtsError",
    "UnknownVoice",
    "Unsupported",
]
