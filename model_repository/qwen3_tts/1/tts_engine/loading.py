"""What an engine is made of, read from disk and put on a device: checkpoint, voices, runner, voice encoder.

Knows no thread and no request.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .acceleration import Acceleration
from .checkpoint import Checkpoint, load_networks
from .config import EngineConfig
from .devices import Placement, codec_is_mixed
from .runner import Runner
from .sizing import with_slots
from .voice_encoder import VoiceEncoder
from .voice_library import VoiceLibrary


@dataclass(frozen=True)
class Parts:
    """Everything loaded. config: as given, its number of slots settled. placement: for `describe`."""

    files: Checkpoint
    config: EngineConfig
    library: VoiceLibrary
    runner: Runner
    encoder: VoiceEncoder | None
    placement: dict[str, object]


def load_parts(
    checkpoint: Path, config: EngineConfig, voices: Path | None, place: Placement, acceleration: Acceleration
) -> Parts:
    """Load a checkpoint and the voices onto a device. Raises LoadError."""
    device, dtype = place.device, place.dtype
    acceleration.choose(device, dtype)
    mixed = codec_is_mixed(config.codec_precision, device, dtype)
    files = Checkpoint.read(checkpoint)
    library = VoiceLibrary(voices)
    networks = load_networks(files, device, dtype, mixed_codec=mixed)
    config = with_slots(config, files.model, networks.codec, device, dtype)
    encoder = None
    if networks.voices is not None:
        capacity, waiting = config.voice_cache_bytes, config.slots + config.max_waiting
        encoder = VoiceEncoder(networks.voices, device, capacity=capacity, max_waiting=waiting)
    runner = Runner(networks, files.model, config, device, dtype)
    if encoder is not None and device.type == "cuda":
        encoder.warm_up()
    return Parts(files, config, library, runner, encoder, place.description)
