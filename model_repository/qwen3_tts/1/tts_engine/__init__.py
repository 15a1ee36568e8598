"""The Qwen3-TTS engine: text and a voice in, frames of speech out, many utterances at once."""

import os

# Read by GNU's OpenMP when torch is loaded, so before any import of it: how often a thread looks for its next piece of
# work before it sleeps. Some 20 microseconds bridge the gaps within a frame step; the usual 3 ms keep cores from
# whoever shares them, which slows both many times over. OMP_WAIT_POLICY or this very variable say otherwise.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

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
from .metrics import EngineMetrics
from .request import Outcome, Sink, Speak, SpokenSegment
from .utterance_log import Trace, ended_line, refused_line

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
