"""Dimensions of the codec: speech_tokenizer/config.json of a checkpoint, its decoder and its encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .config import CODEBOOKS, SAMPLE_RATE, SAMPLES_PER_FRAME
from .config_reading import Section
from .errors import CheckpointError
from .model_config import TransformerConfig


@dataclass(frozen=True)
class CodecConfig:
    """The decoder of speech_tokenizer/config.json: codes to sound."""

    codebook_size: int
    codebook_dim: int
    latent: int
    transformer: TransformerConfig
    window: int
    upsampling_ratios: tuple[int, ...]
    upsample_rates: tuple[int, ...]
    channels: int

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Check and read a parsed speech_tokenizer/config.json.

        Raises CheckpointError naming the key for anything missing or not implemented.
        """
        top = Section(values, "speech_tokenizer/config.json")
        top.one_of("model_type", "qwen3_tts_tokenizer_12hz")
        top.one_of("output_sample_rate", SAMPLE_RATE)
        top.one_of("decode_upsample_rate", SAMPLES_PER_FRAME)
        decoder = top.section("decoder_config")
        decoder.one_of("num_quantizers", CODEBOOKS)
        ratios, rates = decoder.get("upsampling_ratios", list), decoder.get("upsample_rates", list)
        if math.prod(ratios) * math.prod(rates) != SAMPLES_PER_FRAME:
            raise CheckpointError(f"up-sampling {ratios} x {rates} does not make {SAMPLES_PER_FRAME} samples a frame")
        return cls(
            codebook_size=decoder.get("codebook_size"),
            codebook_dim=decoder.get("codebook_dim"),
            latent=decoder.get("latent_dim"),
            transformer=TransformerConfig.read(decoder),
            window=decoder.get("sliding_window"),
            upsampling_ratios=tuple(ratios),
            upsample_rates=tuple(rates),
            channels=decoder.get("decoder_dim"),
        )


@dataclass(frozen=True)
class CodecEncoderConfig:
    """The encoder of speech_tokenizer/config.json: sound to codes. A key left out has MimiConfig's default."""

    transformer: TransformerConfig
    filters: int
    kernel: int
    last_kernel: int
    residual_kernel: int
    compress: int
    ratios: tuple[int, ...]
    quantizers: int
    codebook_size: int
    codebook_dim: int

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Check and read the encoder's part of a parsed speech_tokenizer/config.json.

        Raises CheckpointError naming the key for anything missing or not implemented.
        """
        top = Section(values, "speech_tokenizer/config.json")
        top.one_of("input_sample_rate", SAMPLE_RATE)
        top.one_of("encode_downsample_rate", SAMPLES_PER_FRAME)
        top.one_of("encoder_valid_num_quantizers", CODEBOOKS)
        encoder = top.section("encoder_config")
        for key, value in _ENCODER_FIXED.items():
            encoder.refuse_other_than(key, value)
        return cls(
            transformer=TransformerConfig.read_encoder(encoder),
            filters=encoder.get_or("num_filters", 64),
            kernel=encoder.get_or("kernel_size", 7),
            last_kernel=encoder.get_or("last_kernel_size", 3),
            residual_kernel=encoder.get_or("residual_kernel_size", 3),
            compress=encoder.get_or("compress", 2),
            ratios=tuple(encoder.get_or("upsampling_ratios", [8, 6, 5, 4])),
            quantizers=encoder.get_or("num_quantizers", 32),
            codebook_size=encoder.get_or("codebook_size", 2_048),
            codebook_dim=encoder.get_or("codebook_dim", 256),
        )


_ENCODER_FIXED = {
    "audio_channels": 1,
    "num_residual_layers": 1,
    "num_semantic_quantizers": 1,
    "pad_mode": "constant",
    "use_causal_conv": True,
}
