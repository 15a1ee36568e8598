"""A checkpoint's own description: read as it is, and refused by the name of whatever is not understood."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Demo
from tts_engine import CheckpointError
from tts_engine.checkpoint import Checkpoint
from tts_engine.model_config import CodecConfig, ModelConfig, SamplingDefaults

MISSING = object()
TALKER = "talker_config"
PREDICTOR = f"{TALKER}.code_predictor_config"
STACK = (
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
)


def spoilt(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy in which the key at `path` has another value, or is missing."""
    copied = copy.deepcopy(values)
    *way, last = path.split(".")
    inner = copied
    for key in way:
        inner = inner[key]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return copied


@pytest.fixture
def model(demo: Demo) -> dict[str, Any]:
    return dict(json.loads((demo() / "config.json").read_text()))


@pytest.fixture
def codec(demo: Demo) -> dict[str, Any]:
    return dict(json.loads((demo() / "speech_tokenizer" / "config.json").read_text()))


@pytest.fixture
def generation(demo: Demo) -> dict[str, Any]:
    return dict(json.loads((demo() / "generation_config.json").read_text()))


def test_a_checkpoint_is_what_its_config_says(model: dict[str, Any]) -> None:
    read = ModelConfig.read(model)
    assert (read.type, read.size, read.untrained_demo) == ("custom_voice", "0b6", True)
    assert read.talker.hidden == model[TALKER]["hidden_size"]
    assert read.predictor.hidden == model[TALKER]["code_predictor_config"]["hidden_size"]
    assert read.speakers == {name.lower(): index for name, index in model[TALKER]["spk_id"].items()}
    assert read.dialects == {"eric": "sichuan_dialect", "dylan": "beijing_dialect"}


def test_a_trained_checkpoint_does_not_say_that_it_is_untrained(model: dict[str, Any]) -> None:
    assert not ModelConfig.read(spoilt(model, "untrained_demo", MISSING)).untrained_demo


@pytest.mark.parametrize(
    "path",
    [
        *("model_type", "tokenizer_type", "tts_model_type", "tts_model_size", TALKER),
        *("tts_pad_token_id", "tts_bos_token_id", "tts_eos_token_id"),
        *(f"{TALKER}.{key}" for key in STACK),
        *(f"{PREDICTOR}.{key}" for key in STACK),
        *(f"{TALKER}.codec_{key}_id" for key in ("pad", "bos", "eos_token", "think", "nothink")),
        *(f"{TALKER}.codec_{key}_id" for key in ("think_bos", "think_eos")),
        *(f"{TALKER}.{key}" for key in ("vocab_size", "text_vocab_size", "text_hidden_size", "num_code_groups")),
        *(PREDICTOR, f"{PREDICTOR}.vocab_size", f"{PREDICTOR}.num_code_groups"),
    ],
)
def test_a_missing_key_of_the_model_is_named(model: dict[str, Any], path: str) -> None:
    with pytest.raises(CheckpointError, match=path.rpartition(".")[2]):
        ModelConfig.read(spoilt(model, path, MISSING))
    with pytest.raises(CheckpointError, match=path.rpartition(".")[2]):
        ModelConfig.read(spoilt(model, path, ["a list"]))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_type", "qwen3_omni"),
        ("tokenizer_type", "qwen3_tts_tokenizer_25hz"),
        ("tts_model_type", "singing"),
        ("tts_model_size", "7b"),
        (f"{TALKER}.num_code_groups", 8),
        (f"{PREDICTOR}.num_code_groups", 32),
        (f"{TALKER}.hidden_act", "gelu"),
        (f"{TALKER}.attention_bias", True),
        (f"{TALKER}.use_sliding_window", True),
        (f"{PREDICTOR}.hidden_act", "relu"),
        (f"{PREDICTOR}.use_sliding_window", True),
        (f"{TALKER}.rope_scaling.rope_type", "yarn"),
        (f"{TALKER}.hidden_size", "1024"),
        (f"{TALKER}.hidden_size", True),
        (f"{TALKER}.hidden_size", 10.5),
        (f"{TALKER}.spk_id", []),
    ],
)
def test_a_value_this_engine_does_not_know_is_refused_by_name(model: dict[str, Any], path: str, value: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        ModelConfig.read(spoilt(model, path, value))
    assert path.rpartition(".")[2] in str(caught.value)
    assert str(value) in str(caught.value)


def test_heads_that_cannot_share_evenly_are_refused(model: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="4 attention heads cannot share 3"):
        ModelConfig.read(spoilt(model, f"{TALKER}.num_key_value_heads", 3))


def test_a_dialect_without_an_id_is_refused(model: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="speaker 'eric' speaks 'martian'"):
        ModelConfig.read(spoilt(model, f"{TALKER}.spk_is_dialect.eric", "martian"))


@pytest.mark.parametrize("key", ["spk_id", "spk_is_dialect"])
def test_tables_may_be_null_or_missing(model: dict[str, Any], key: str) -> None:
    for value in (None, MISSING, {}):
        assert ModelConfig.read(spoilt(model, f"{TALKER}.{key}", value))


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


@pytest.mark.parametrize("key", ["top_k", "top_p", "repetition_penalty", "temperature", "subtalker_temperature"])
def test_a_missing_sampling_default_is_named(generation: dict[str, Any], key: str) -> None:
    with pytest.raises(CheckpointError, match=rf"generation_config\.json\.{key} is missing"):
        SamplingDefaults.read(spoilt(generation, key, MISSING))


def test_no_sampling_is_temperature_zero(generation: dict[str, Any]) -> None:
    greedy = SamplingDefaults.read(generation | {"do_sample": False, "subtalker_dosample": False})
    assert (greedy.temperature, greedy.predictor_temperature) == (0.0, 0.0)


def test_a_model_and_a_codec_that_do_not_fit_are_refused(folder: Path, model: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(spoilt(model, f"{PREDICTOR}.vocab_size", 63)))
    with pytest.raises(CheckpointError, match=r"predictor knows 63 codes, the codec 64"):
        Checkpoint.read(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "speech_tokenizer/config.json"])
@pytest.mark.parametrize("content", [None, "{", "[]", "\udcff"])
def test_an_unreadable_config_is_named(folder: Path, name: str, content: str | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        Checkpoint.read(folder)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        Checkpoint.read(tmp_path / "nowhere")
