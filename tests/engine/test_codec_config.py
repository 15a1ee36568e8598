"""The codec's description and those of the encoders: read as they are, and refused by the name of what is not known."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Demo
from tests.engine.configs import MISSING, STACK, spoilt
from tts_engine import CheckpointError
from tts_engine.checkpoint import Checkpoint
from tts_engine.codec_config import CodecConfig, CodecEncoderConfig
from tts_engine.model_config import SpeakerEncoderConfig


@pytest.fixture
def codec(demo: Demo) -> dict[str, Any]:
    return dict(json.loads((demo() / "speech_tokenizer" / "config.json").read_text()))


@pytest.mark.parametrize(
    "path",
    [
        *("model_type", "output_sample_rate", "decode_upsample_rate", "decoder_config"),
        *(f"decoder_config.{key}" for key in STACK),
        *(f"decoder_config.{key}" for key in ("num_quantizers", "codebook_size", "codebook_dim", "latent_dim")),
        *(f"decoder_config.{key}" for key in ("sliding_window", "decoder_dim", "upsample_rates", "upsampling_ratios")),
    ],
)
def test_a_missing_key_of_the_codec_is_named(codec: dict[str, Any], path: str) -> None:
    for value in (MISSING, "words"):
        with pytest.raises(CheckpointError, match=path.rpartition(".")[2]):
            CodecConfig.read(spoilt(codec, path, value))


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("model_type", "mimi", "mimi"),
        ("output_sample_rate", 16_000, "24000"),
        ("decode_upsample_rate", 960, "1920"),
        ("decoder_config.num_quantizers", 8, "16"),
        ("decoder_config.upsample_rates", [8, 5, 4, 2], "does not make 1920"),
        ("decoder_config.hidden_act", "gelu", "silu"),
    ],
)
def test_a_codec_of_another_kind_is_refused(codec: dict[str, Any], path: str, value: Any, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        CodecConfig.read(spoilt(codec, path, value))


ENCODER = "encoder_config"
MIMI_DEFAULTS = {
    "num_filters": 64,
    "kernel_size": 7,
    "last_kernel_size": 3,
    "residual_kernel_size": 3,
    "compress": 2,
    "num_quantizers": 32,
    "codebook_size": 2_048,
    "codebook_dim": 256,
    "hidden_size": 512,
    "intermediate_size": 2_048,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "upsampling_ratios": [8, 6, 5, 4],
}


def test_an_encoder_that_says_nothing_is_the_default_one(codec: dict[str, Any]) -> None:
    spoken, silent = (CodecEncoderConfig.read(spoilt(codec, ENCODER, values)) for values in (MIMI_DEFAULTS, {}))
    assert spoken == silent
    assert (spoken.quantizers, spoken.ratios, spoken.transformer.head_dim) == (32, (8, 6, 5, 4), 64)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("input_sample_rate", 16_000, "24000"),
        ("encode_downsample_rate", 960, "1920"),
        ("encoder_valid_num_quantizers", 8, "16"),
        (ENCODER, MISSING, "encoder_config is missing"),
        (f"{ENCODER}.audio_channels", 2, "audio_channels is 2"),
        (f"{ENCODER}.num_residual_layers", 3, "num_residual_layers is 3"),
        (f"{ENCODER}.num_semantic_quantizers", 2, "num_semantic_quantizers is 2"),
        (f"{ENCODER}.pad_mode", "replicate", "pad_mode is 'replicate'"),
        (f"{ENCODER}.use_causal_conv", False, "use_causal_conv is False"),
        (f"{ENCODER}.hidden_act", "silu", "hidden_act is 'silu'"),
        (f"{ENCODER}.num_filters", "64", "num_filters has an unexpected value: '64'"),
    ],
)
def test_an_encoder_of_another_kind_is_refused(codec: dict[str, Any], path: str, value: Any, complaint: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        CodecEncoderConfig.read(spoilt(codec, path, value))
    assert complaint in str(caught.value)


def test_a_speaker_encoder_is_read_from_a_base_checkpoint(demo: Demo) -> None:
    values = json.loads((demo(model_type="base") / "config.json").read_text())
    read = SpeakerEncoderConfig.read(values)
    assert read.width == values["speaker_encoder_config"]["enc_dim"]
    with pytest.raises(CheckpointError, match=r"speaker_encoder_config\.enc_dim is missing"):
        SpeakerEncoderConfig.read(spoilt(values, "speaker_encoder_config.enc_dim", MISSING))
    with pytest.raises(CheckpointError, match=r"speaker_encoder_config\.sample_rate is 16000"):
        SpeakerEncoderConfig.read(spoilt(values, "speaker_encoder_config.sample_rate", 16_000))


def test_only_a_base_checkpoint_must_describe_its_encoders(demo: Demo, folder: Path) -> None:
    path = folder / "speech_tokenizer" / "config.json"
    path.write_text(json.dumps(spoilt(json.loads(path.read_text()), ENCODER, MISSING)))
    assert Checkpoint.read(folder).codec_encoder is None
    base = Checkpoint.read(demo(model_type="base"))
    assert base.codec_encoder is not None
    assert base.speaker_encoder is not None
