"""The Qwen3-TTS engine: text and a voice in, frames of speech out, many utterances at once."""

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
from .metrics import EngineMetrics
from .request import Outcome, Sink, Speak, SpokenSegment
from .utterance_log import Trace, ended_line, refused_line

__all__ = [
    "CODEBOOKS",
    "SAMPLES_PER_FRAME",
    "SAMPLE_RATE",
    "CheckpointError",
    "Delivery",
    "Engine",
    "EngineConfig",
    "EngineFailed",
    "EngineMetrics",
    "InvalidRequest",
    "LoadError",
    "Outcome",
    "Overloaded",
    "SettingsError",
    "Sink",
    "Speak",
    "SpokenSegment",
    "Statistics",
    "Trace",
    "TtsError",
    "UnknownVoice",
    "Unsupported",
    "ended_line",
    "refused_line",
]
