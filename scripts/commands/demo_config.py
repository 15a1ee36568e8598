"""The config files of a demo talker, tiny or in the released dimensions.

Builds plain dictionaries in the layout of the released checkpoints. It knows no tensor, draws no number and
writes no file: demo_layout.py reads the same dictionaries to say which tensors they imply. The codec's configs are
in demo_codec_config.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REAL_CODEBOOK = 2048
SUPPRESSED_TAIL = 1024  # upstream forbids the last 1,024 talker ids whatever the vocabulary is
SAMPLE_RATE = 24_000

LANGUAGES = {
    "chinese": 2055,
    "english": 2050,
    "german": 2053,
    "italian": 2070,
    "portuguese": 2071,
    "spanish": 2054,
    "japanese": 2058,
    "korean": 2064,
    "french": 2061,
    "russian": 2069,
}
DIALECTS = {"beijing_dialect": 2074, "sichuan_dialect": 2062}
SPEAKERS = {
    "serena": 3066,
    "vivian": 3065,
    "uncle_fu": 3010,
    "ryan": 3061,
    "aiden": 2861,
    "ono_anna": 2873,
    "sohee": 2864,
    "eric": 2875,
    "dylan": 2878,
}
SPEAKER_DIALECTS = {"eric": "sichuan_dialect", "dylan": "beijing_dialect"}
CONTROL_IDS = {
    "pad_token_id": 2148,
    "codec_pad_id": 2148,
    "codec_bos_id": 2149,
    "codec_eos_token_id": 2150,
    "codec_think_id": 2154,
    "codec_nothink_id": 2155,
    "codec_think_bos_id": 2156,
    "codec_think_eos_id": 2157,
}
GENERATION: dict[str, Any] = {
    "do_sample": True,
    "repetition_penalty": 1.05,
    "temperature": 0.9,
    "top_p": 1.0,
    "top_k": 50,
    "subtalker_dosample": True,
    "subtalker_temperature": 0.9,
    "subtalker_top_p": 1.0,
    "subtalker_top_k": 50,
    "max_new_tokens": 8192,
}


@dataclass(frozen=True)
class Widths:
    """The dimensions that differ between a tiny and a full-size checkpoint of one size."""

    codebook: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mrope_section: tuple[int, int, int]
    text_hidden: int
    predictor_hidden: int
    predictor_intermediate: int
    predictor_layers: int
    predictor_head_dim: int


FULL = {
    "0b6": Widths(2048, 1024, 3072, 28, 16, 8, 128, (24, 20, 20), 2048, 1024, 3072, 5, 128),
    "1b7": Widths(2048, 2048, 6144, 28, 16, 8, 128, (24, 20, 20), 2048, 1024, 3072, 5, 128),
}
TINY = {
    "0b6": Widths(64, 64, 144, 3, 4, 2, 32, (6, 5, 5), 80, 64, 112, 2, 24),
    "1b7": Widths(64, 96, 208, 3, 4, 2, 32, (6, 5, 5), 80, 64, 112, 2, 24),
}


def widths(size: str, full_size: bool) -> Widths:
    """The dimensions of `size` ("0b6" or "1b7")."""
    return (FULL if full_size else TINY)[size]


def _attention(w: Widths, layers: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "num_attention_heads": w.heads,
        "num_key_value_heads": w.kv_heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
        "attention_bias": False,
        "attention_dropout": 0,
        "use_sliding_window": False,
        "sliding_window": None,
        "initializer_range": 0.02,
        "use_cache": True,
        "num_code_groups": 16,
    }


def _predictor(w: Widths) -> dict[str, Any]:
    return _attention(w, w.predictor_layers) | {
        "model_type": "qwen3_tts_talker_code_predictor",
        "vocab_size": w.codebook,
        "hidden_size": w.predictor_hidden,
        "intermediate_size": w.predictor_intermediate,
        "head_dim": w.predictor_head_dim,
        "layer_types": ["full_attention"] * w.predictor_layers,
        "max_position_embeddings": 65_536,
        "max_window_layers": w.predictor_layers,
        "rope_scaling": None,
        "tie_word_embeddings": False,
    }


def _voice_tables(model_type: str, speakers: Mapping[str, int] | None) -> dict[str, Any]:
    if model_type != "custom_voice":
        return {"codec_language_id": dict(LANGUAGES), "spk_id": {}, "spk_is_dialect": {}}
    dialects: Mapping[str, str] = SPEAKER_DIALECTS if speakers is None else {}
    table = SPEAKERS if speakers is None else speakers
    return {
        "codec_language_id": LANGUAGES | DIALECTS,
        "spk_id": dict(table),
        "spk_is_dialect": {name: dialects.get(name, False) for name in table},
    }


def _shifted(ids: Mapping[str, int], codebook: int) -> dict[str, int]:
    """`ids` moved down with the codebook: everything above the codes keeps its distance to them."""
    return {name: real - REAL_CODEBOOK + codebook for name, real in ids.items()}


def _talker(w: Widths, text_vocab: int, tables: dict[str, Any]) -> dict[str, Any]:
    return (
        _attention(w, w.layers)
        | {
            "model_type": "qwen3_tts_talker",
            "code_predictor_config": _predictor(w),
            "vocab_size": w.codebook + SUPPRESSED_TAIL,
            "hidden_size": w.hidden,
            "intermediate_size": w.intermediate,
            "head_dim": w.head_dim,
            "max_position_embeddings": 32_768,
            "rope_scaling": {
                "interleaved": True,
                "mrope_section": list(w.mrope_section),
                "rope_type": "default",
                "type": "default",
            },
            "position_id_per_seconds": 13,
            "text_hidden_size": w.text_hidden,
            "text_vocab_size": text_vocab,
            "codec_language_id": _shifted(tables["codec_language_id"], w.codebook),
            "spk_id": _shifted(tables["spk_id"], w.codebook),
            "spk_is_dialect": tables["spk_is_dialect"],
        }
        | _shifted(CONTROL_IDS, w.codebook)
    )


def _speaker_encoder(w: Widths, full_size: bool) -> dict[str, Any]:
    released = {"enc_dim": w.hidden, "sample_rate": SAMPLE_RATE}
    if full_size:
        return released  # the other dimensions are the package's defaults and absent from the released file
    return released | {
        "mel_dim": 128,
        "enc_channels": [16, 16, 16, 16, 48],
        "enc_kernel_sizes": [5, 3, 3, 3, 1],
        "enc_dilations": [1, 2, 3, 4, 1],
        "enc_attention_channels": 8,
        "enc_res2net_scale": 8,
        "enc_se_channels": 8,
    }


def checkpoint_config(
    model_type: str,
    size: str,
    full_size: bool,
    text_ids: Mapping[str, int],
    speakers: Mapping[str, int] | None,
) -> dict[str, Any]:
    """The top-level config.json.

    `text_ids` are the tokenizer's named ids (demo_tokenizer.Tokenizer.named_ids). `speakers` replaces the
    speaker table: name to talker id as in the released vocabulary (codes end at 2047).
    """
    w = widths(size, full_size)
    config: dict[str, Any] = {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "untrained_demo": True,
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_size": size,
        "tts_model_type": model_type,
        "assistant_token_id": text_ids["assistant"],
        "im_start_token_id": text_ids["<|im_start|>"],
        "im_end_token_id": text_ids["<|im_end|>"],
        "tts_pad_token_id": text_ids["<tts_pad>"],
        "tts_bos_token_id": text_ids["<tts_text_bos>"],
        "tts_eos_token_id": text_ids["<tts_text_eod>"],
        "talker_config": _talker(w, text_ids["vocabulary"], _voice_tables(model_type, speakers)),
        "transformers_version": "4.57.3",
    }
    if model_type == "base":
        config["speaker_encoder_config"] = _speaker_encoder(w, full_size)
    return config
