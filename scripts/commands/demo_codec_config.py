"""The config files of a demo codec, tiny or in the released dimensions.

Plain dictionaries in the layout of a released speech_tokenizer folder; demo_codec_layout.py says which tensors they
imply. It knows nothing about the talker but how many codes a codebook has.
"""

from typing import Any

from commands.demo_config import SAMPLE_RATE, widths

CODEC_PREPROCESSOR: dict[str, Any] = {
    "feature_extractor_type": "EncodecFeatureExtractor",
    "feature_size": 1,
    "sampling_rate": SAMPLE_RATE,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "chunk_length_s": None,
    "overlap": None,
}


def _codec_encoder(codebook: int, full_size: bool) -> dict[str, Any]:
    hidden, heads, layers = (512, 8, 8) if full_size else (32, 4, 2)
    return {
        "model_type": "mimi",
        "audio_channels": 1,
        "sampling_rate": SAMPLE_RATE,
        "num_filters": 64 if full_size else 4,
        "kernel_size": 7,
        "residual_kernel_size": 3,
        "last_kernel_size": 3,
        "num_residual_layers": 1,
        "dilation_growth_rate": 2,
        "compress": 2,
        "upsampling_ratios": [8, 6, 5, 4],
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "hidden_act": "gelu",
        "norm_eps": 1e-5,
        "layer_scale_initial_scale": 0.01,
        "rope_theta": 10_000,
        "max_position_embeddings": 8000,
        "sliding_window": 250,
        "num_quantizers": 32,
        "num_semantic_quantizers": 1,
        "codebook_size": codebook,
        "codebook_dim": hidden // 2,
        "vector_quantization_hidden_dimension": hidden // 2,
        "pad_mode": "constant",
        "use_causal_conv": True,
        "trim_right_ratio": 1.0,
        "upsample_groups": hidden,
        "use_cache": False,
    }


def _codec_decoder(codebook: int, full_size: bool) -> dict[str, Any]:
    return {
        "codebook_size": codebook,
        "semantic_codebook_size": 2 * codebook,
        "codebook_dim": 512 if full_size else 32,
        "vector_quantization_hidden_dimension": 512 if full_size else 32,
        "latent_dim": 1024 if full_size else 40,
        "hidden_size": 512 if full_size else 16,
        "intermediate_size": 1024 if full_size else 32,
        "num_hidden_layers": 8 if full_size else 2,
        "num_attention_heads": 16 if full_size else 4,
        "num_key_value_heads": 16 if full_size else 4,
        "head_dim": 64 if full_size else 8,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "layer_scale_initial_scale": 0.01,
        "rope_theta": 10_000,
        "max_position_embeddings": 8000,
        "sliding_window": 72,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "num_quantizers": 16,
        "num_semantic_quantizers": 1,
        "upsample_rates": [8, 5, 4, 3],
        "upsampling_ratios": [2, 2],
        "decoder_dim": 1536 if full_size else 32,
    }


def codec_config(full_size: bool) -> dict[str, Any]:
    """speech_tokenizer/config.json."""
    codebook = widths("0b6", full_size).codebook
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_valid_num_quantizers": 16,
        "input_sample_rate": SAMPLE_RATE,
        "output_sample_rate": SAMPLE_RATE,
        "decode_upsample_rate": 1920,
        "encode_downsample_rate": 1920,
        "encoder_config": _codec_encoder(codebook, full_size),
        "decoder_config": _codec_decoder(codebook, full_size),
        "transformers_version": "4.57.3",
    }
