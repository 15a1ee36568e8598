"""What a checkpoint is: the dimensions of its networks, its special ids, its tables of names, its sampling defaults.

Every value is read strictly from the checkpoint's JSON; a feature this engine does not implement is refused by
name rather than ignored. Nothing here touches a file or a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .config import CODEBOOKS, SAMPLE_RATE
from .config_reading import Section
from .errors import CheckpointError

RESERVED_IDS = 1_024
"""The last ids of the talker's vocabulary stand for no code: they are control, language and speaker ids."""


@dataclass(frozen=True)
class TransformerConfig:
    """Dimensions of one decoder-only stack (talker or code predictor)."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rope_theta: float

    @classmethod
    def read(cls, section: Section) -> Self:
        """Read a transformer section.

        Raises CheckpointError for a feature no released checkpoint uses and this engine does not implement.
        """
        section.refuse_other_than("hidden_act", "silu")
        section.refuse_other_than("attention_bias", False)
        section.refuse_other_than("use_sliding_window", False)
        section.refuse_elements_other_than("layer_types", "full_attention")
        heads, kv_heads = section.size("num_attention_heads"), section.size("num_key_value_heads")
        if heads % kv_heads:
            raise CheckpointError(f"{heads} attention heads cannot share {kv_heads} key/value heads evenly")
        return cls(
            hidden=section.size("hidden_size"),
            intermediate=section.size("intermediate_size"),
            layers=section.size("num_hidden_layers"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=section.size("head_dim"),
            eps=section.number("rms_norm_eps"),
            rope_theta=section.number("rope_theta"),
        )

    @classmethod
    def read_encoder(cls, section: Section) -> Self:
        """Read the transformer of the codec's encoder, a MimiConfig; a key left out has its default.

        Raises CheckpointError.
        """
        section.refuse_other_than("hidden_act", "gelu")
        heads, hidden = section.get_or("num_attention_heads", 8), section.get_or("hidden_size", 512)
        return cls(
            hidden=hidden,
            intermediate=section.get_or("intermediate_size", 2_048),
            layers=section.get_or("num_hidden_layers", 8),
            heads=heads,
            kv_heads=section.get_or("num_key_value_heads", 8),
            head_dim=section.get_or("head_dim", hidden // heads),
            eps=section.number_or("norm_eps", 1e-5),
            rope_theta=section.number_or("rope_theta", 10_000.0),
        )


@dataclass(frozen=True)
class SpecialIds:
    """Ids the prompt template is written with: text-side first, then codec-side."""

    tts_pad: int
    tts_bos: int
    tts_eos: int
    codec_pad: int
    codec_bos: int
    codec_eos: int
    think: int
    nothink: int
    think_bos: int
    think_eos: int

    @classmethod
    def read(cls, top: Section, talker: Section) -> Self:
        """Read them from config.json; upstream's class defaults differ from what is released, so none is assumed."""
        return cls(
            tts_pad=top.get("tts_pad_token_id"),
            tts_bos=top.get("tts_bos_token_id"),
            tts_eos=top.get("tts_eos_token_id"),
            codec_pad=talker.get("codec_pad_id"),
            codec_bos=talker.get("codec_bos_id"),
            codec_eos=talker.get("codec_eos_token_id"),
            think=talker.get("codec_think_id"),
            nothink=talker.get("codec_nothink_id"),
            think_bos=talker.get("codec_think_bos_id"),
            think_eos=talker.get("codec_think_eos_id"),
        )


@dataclass(frozen=True)
class ModelConfig:
    """config.json of a checkpoint: what it can do, its dimensions, its tables of names."""

    type: str
    size: str
    untrained_demo: bool
    talker: TransformerConfig
    predictor: TransformerConfig
    vocab: int
    code_vocab: int
    text_vocab: int
    text_hidden: int
    ids: SpecialIds
    languages: Mapping[str, int]
    speakers: Mapping[str, int]
    dialects: Mapping[str, str]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Check and read a parsed config.json.

        Raises CheckpointError naming the key for anything missing, of a wrong type, or not implemented.
        """
        top = Section(values, "config.json")
        top.one_of("model_type", "qwen3_tts")
        top.one_of("tokenizer_type", "qwen3_tts_tokenizer_12hz")
        talker = top.section("talker_config")
        predictor = talker.section("code_predictor_config")
        for section in (talker, predictor):
            if section.get("num_code_groups") != CODEBOOKS:
                raise CheckpointError(f"num_code_groups must be {CODEBOOKS}, got {section.get('num_code_groups')}")
        _require_plain_rope(talker)
        predictor.refuse_other_than("rope_scaling", None)
        config = cls(
            type=top.one_of("tts_model_type", "custom_voice", "voice_design", "base"),
            size=top.one_of("tts_model_size", "0b6", "1b7"),
            untrained_demo=bool(values.get("untrained_demo", False)),
            talker=TransformerConfig.read(talker),
            predictor=TransformerConfig.read(predictor),
            vocab=talker.size("vocab_size"),
            code_vocab=predictor.size("vocab_size"),
            text_vocab=talker.size("text_vocab_size"),
            text_hidden=talker.size("text_hidden_size"),
            ids=SpecialIds.read(top, talker),
            languages=talker.ids("codec_language_id"),
            speakers=talker.ids("spk_id"),
            dialects=_read_dialects(talker),
        )
        config.check_ids()
        return config

    def check_ids(self) -> None:
        """Check that every id lies where it belongs. Raises CheckpointError; a bad id would stop the engine later."""
        if self.vocab - RESERVED_IDS != self.code_vocab:
            raise CheckpointError(
                f"the talker's vocabulary of {self.vocab} must be {RESERVED_IDS} above the {self.code_vocab} codes"
            )
        ids = vars(self.ids)
        spoken = {name: value for name, value in ids.items() if name.startswith("tts_")}
        reserved = {name: value for name, value in ids.items() if name not in spoken}
        for table, low, high in (
            (spoken, 0, self.text_vocab),
            (reserved, self.code_vocab, self.vocab),
            (self.languages, self.code_vocab, self.vocab),
            (self.speakers, self.code_vocab, self.vocab),
        ):
            for name, value in table.items():
                if not low <= value < high:
                    raise CheckpointError(f"the id of {name!r} must be from {low} to {high - 1}, got {value}")


def _read_dialects(talker: Section) -> dict[str, str]:
    """Which speakers speak a dialect; the table holds false for the others."""
    table = talker.mapping("spk_is_dialect")
    dialects = {speaker.lower(): name.lower() for speaker, name in table.items() if isinstance(name, str)}
    languages = talker.ids("codec_language_id")
    for speaker, dialect in dialects.items():
        if dialect not in languages:
            raise CheckpointError(f"speaker {speaker!r} speaks {dialect!r}, which codec_language_id does not list")
    return dialects


def _require_plain_rope(talker: Section) -> None:
    """All three position tracks of the talker are equal, so only the default rope type reduces to plain RoPE."""
    scaling = Section(talker.mapping("rope_scaling"), "config.json.talker_config.rope_scaling")
    for key in ("rope_type", "type"):
        scaling.refuse_other_than(key, "default")


@dataclass(frozen=True)
class SpeakerEncoderConfig:
    """speaker_encoder_config of a Base checkpoint; released files name the width alone, the rest is as upstream."""

    width: int
    mels: int
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    attention: int
    squeeze: int
    scale: int

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Check and read a parsed config.json of a Base checkpoint. Raises CheckpointError."""
        section = Section(values, "config.json").section("speaker_encoder_config")
        section.one_of("sample_rate", SAMPLE_RATE)
        return cls(
            width=section.get("enc_dim"),
            mels=section.get_or("mel_dim", 128),
            channels=tuple(section.get_or("enc_channels", [512, 512, 512, 512, 1536])),
            kernels=tuple(section.get_or("enc_kernel_sizes", [5, 3, 3, 3, 1])),
            dilations=tuple(section.get_or("enc_dilations", [1, 2, 3, 4, 1])),
            attention=section.get_or("enc_attention_channels", 128),
            squeeze=section.get_or("enc_se_channels", 128),
            scale=section.get_or("enc_res2net_scale", 8),
        )


@dataclass(frozen=True)
class SamplingDefaults:
    """generation_config.json: what a request gets that names no sampling values."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    predictor_temperature: float
    predictor_top_k: int
    predictor_top_p: float

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Check and read a parsed generation_config.json; a `do_sample` of false means temperature 0."""
        section = Section(values, "generation_config.json")
        sample, predictor_sample = values.get("do_sample", True), values.get("subtalker_dosample", True)
        return cls(
            temperature=section.number("temperature") if sample else 0.0,
            top_k=section.get("top_k"),
            top_p=section.number("top_p"),
            repetition_penalty=section.number("repetition_penalty"),
            predictor_temperature=section.number("subtalker_temperature") if predictor_sample else 0.0,
            predictor_top_k=section.get("subtalker_top_k"),
            predictor_top_p=section.number("subtalker_top_p"),
        )
