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

from .errors import CheckpointError
from .model_config import CodecConfig, ModelConfig, SamplingDefaults
from .networks.code_predictor import CodePredictor
from .networks.codec_decoder import CodecDecoder
from .networks.talker import Talker
from .weights import open_weights


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder says of itself, without its weights."""

    folder: Path
    model: ModelConfig
    codec: CodecConfig
    sampling: SamplingDefaults

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read and check the configs.

        Raises CheckpointError naming the file and key.
        """
        if not folder.is_dir():
            raise CheckpointError(f"the checkpoint directory {folder} does not exist")
        checkpoint = cls(
            folder=folder,
            model=ModelConfig.read(_read_json(folder / "config.json")),
            codec=CodecConfig.read(_read_json(folder / "speech_tokenizer" / "config.json")),
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


def load_networks(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Networks:
    """Load every tensor this engine uses, and check that none is left over.

    dtype is that of talker and predictor; the codec, whose weights ship in float32, never gets less than that.
    Raises CheckpointError.
    """
    with open_weights(checkpoint.folder, device, dtype) as weights:
        weights.leave(("speaker_encoder.",))  # only voice cloning uses it
        talker = Talker.load(weights, checkpoint.model)
        predictor = CodePredictor.load(weights, checkpoint.model, talker.codec_embedding)
    wide = torch.promote_types(dtype, torch.float32)
    with open_weights(checkpoint.folder / "speech_tokenizer", device, wide) as weights:
        weights.leave(("encoder.",))  # only voice cloning uses it
        codec = CodecDecoder.load(weights, checkpoint.codec)
    return Networks(talker, predictor, codec)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return values
