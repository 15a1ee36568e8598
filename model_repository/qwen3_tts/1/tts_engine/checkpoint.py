"""A checkpoint folder in the released layout: its configs, its tokenizer, its networks.

config.json  generation_config.json  model.safetensors (or shards)  vocab.json  merges.txt  tokenizer_config.json
speech_tokenizer/{config.json, model.safetensors}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .codec_config import CodecConfig, CodecEncoderConfig
from .errors import CheckpointError
from .model_config import ModelConfig, SamplingDefaults, SpeakerEncoderConfig
from .networks.code_predictor import CodePredictor
from .networks.codec_decoder import CodecDecoder
from .networks.codec_encoder import CodecEncoder
from .networks.speaker_encoder import SpeakerEncoder
from .networks.talker import Talker
from .voice_encoder import VoiceNetworks
from .weights import open_weights


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder says of itself, without its weights."""

    folder: Path
    model: ModelConfig
    codec: CodecConfig
    codec_encoder: CodecEncoderConfig | None
    speaker_encoder: SpeakerEncoderConfig | None
    sampling: SamplingDefaults

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read and check the configs.

        Raises CheckpointError naming the file and key.
        """
        if not folder.is_dir():
            raise CheckpointError(f"the checkpoint directory {folder} does not exist")
        values, codec = _read_json(folder / "config.json"), _read_json(folder / "speech_tokenizer" / "config.json")
        model = ModelConfig.read(values)
        checkpoint = cls(
            folder=folder,
            model=model,
            codec=CodecConfig.read(codec),
            codec_encoder=CodecEncoderConfig.read(codec) if model.type == "base" else None,
            speaker_encoder=SpeakerEncoderConfig.read(values) if model.type == "base" else None,
            sampling=SamplingDefaults.read(_read_json(folder / "generation_config.json")),
        )
        if checkpoint.model.code_vocab != checkpoint.codec.codebook_size:
            raise CheckpointError(
                f"the code predictor knows {checkpoint.model.code_vocab} codes, "
                f"the codec {checkpoint.codec.codebook_size}"
            )
        return checkpoint


@dataclass(frozen=True)
class Networks:
    """The loaded networks of a checkpoint."""

    talker: Talker
    predictor: CodePredictor
    codec: CodecDecoder
    voices: VoiceNetworks | None


def load_networks(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, *, mixed_codec: bool = False
) -> Networks:
    """Load every tensor this engine uses, and check that none is left over.

    dtype is that of talker and predictor; codec and encoders, which are less forgiving, get at least float32, but for
    what a codec in mixed precision multiplies. Raises CheckpointError.
    """
    wide = torch.promote_types(dtype, torch.float32)
    speaker, encoder = checkpoint.speaker_encoder, checkpoint.codec_encoder
    with open_weights(checkpoint.folder, device) as weights:
        talker = Talker.load(weights.cast(dtype), checkpoint.model)
        predictor = CodePredictor.load(weights.cast(dtype), checkpoint.model, talker.codec_embedding)
        speaker_encoder = SpeakerEncoder.load(weights.cast(wide), speaker) if speaker is not None else None
        if speaker_encoder is None:  # a checkpoint fine-tuned to one speaker may still carry it
            weights.leave(("speaker_encoder.",))
    with open_weights(checkpoint.folder / "speech_tokenizer", device) as weights:
        codec = CodecDecoder.load(weights.cast(wide), checkpoint.codec, mixed=mixed_codec)
        if speaker_encoder is None or encoder is None:  # only cloning needs the encoder
            weights.leave(("encoder.",))
            return Networks(talker, predictor, codec, None)
        codec_encoder = CodecEncoder.load(weights.cast(wide), encoder)
    return Networks(talker, predictor, codec, VoiceNetworks(codec_encoder, speaker_encoder, codec))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return values
