"""What an engine is made of, read from disk and put on a device: checkpoint, voices, runner, voice encoder.

Knows no thread and no request.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .acceleration import Acceleration
from .checkpoint import Checkpoint, load_networks
from .config import EngineConfig
from .devices import device_named, dtype_named
from .runner import Runner
from .sizing import with_slots
from .voice_encoder import VoiceEncoder
from .voice_library import VoiceLibrary


@dataclass(frozen=True)
class Parts:
    """Everything loaded. config: as given, its number of slots settled. placement: device and dtype by name."""

    files: Checkpoint
    config: EngineConfig
    library: VoiceLibrary
    runner: Runner
    encoder: VoiceEncoder | None
    placement: dict[str, object]


def load_parts(
    checkpoint: Path, config: EngineConfig, voices: Path | None, device: str, dtype: str, acceleration: Acceleration
) -> Parts:
    """Load a checkpoint and the voices onto a device. See Engine.load; raises LoadError."""
    place = device_named(device)
    precision = dtype_named(dtype, place)
    acceleration.choose(place, precision)
    files = Checkpoint.read(checkpoint)
    library = VoiceLibrary(voices)
    networks = load_networks(files, place, precision)
    config = with_slots(config, files.model, networks.codec, place, precision)
    encoder = None
    if networks.voices is not None:
        waiting = config.slots + config.max_waiting
        encoder = VoiceEncoder(networks.voices, place, capacity=config.voice_cache_bytes, max_waiting=waiting)
    runner = Runner(networks, files.model, config, place, precision)
    placement: dict[str, object] = {"device": str(place), "dtype": str(precision).removeprefix("torch.")}
    return Parts(files, config, library, runner, encoder, placement)
