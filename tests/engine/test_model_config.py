"""A checkpoint's own description: read as it is, and refused by the name of whatever is not understood."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Demo
from tests.engine.configs import MISSING, STACK, spoilt
from tts_engine import CheckpointError
from tts_engine.checkpoint import Checkpoint
from tts_engine.model_config import ModelConfig, SamplingDefaults

TALKER = "talker_config"
PREDICTOR = f"{TALKER}.code_predictor_config"


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
        (f"{TALKER}.rope_scaling.type", "yarn"),
        (f"{PREDICTOR}.rope_scaling", {"rope_type": "yarn"}),
        (f"{TALKER}.num_key_value_heads", 0),
        (f"{TALKER}.hidden_size", -4),
        (f"{PREDICTOR}.num_hidden_layers", 0),
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


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (f"{TALKER}.spk_id.serena", 99_999, "the id of 'serena' must be from 64 to 1087, got 99999"),
        (f"{TALKER}.spk_id.serena", 63, "the id of 'serena' must be from 64 to 1087, got 63"),
        (f"{TALKER}.spk_id.serena", None, "spk_id.serena must be an id, got None"),
        (f"{TALKER}.spk_id.serena", True, "spk_id.serena must be an id, got True"),
        (f"{TALKER}.codec_language_id.english", -5, "the id of 'english' must be from 64 to 1087, got -5"),
        (f"{TALKER}.codec_language_id.english", "abc", "codec_language_id.english must be an id, got 'abc'"),
        (f"{TALKER}.codec_bos_id", 10**6, "the id of 'codec_bos' must be from 64 to 1087, got 1000000"),
        (f"{TALKER}.codec_eos_token_id", 3, "the id of 'codec_eos' must be from 64 to 1087, got 3"),
        ("tts_pad_token_id", 10**7, "the id of 'tts_pad' must be from 0 to"),
        ("tts_eos_token_id", -1, "the id of 'tts_eos' must be from 0 to"),
        (f"{TALKER}.spk_id", ["a"], "spk_id has an unexpected value"),
        (f"{TALKER}.codec_language_id", None, "which codec_language_id does not list"),
    ],
)
def test_an_id_that_lies_where_it_does_not_belong_is_refused_by_name(
    model: dict[str, Any], path: str, value: Any, complaint: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        ModelConfig.read(spoilt(model, path, value))
    assert complaint in str(caught.value)


def test_layers_that_look_through_a_window_are_refused(model: dict[str, Any]) -> None:
    for section in (TALKER, PREDICTOR):
        with pytest.raises(CheckpointError, match="layer_types"):
            ModelConfig.read(spoilt(model, f"{section}.layer_types", ["full_attention", "sliding_attention"]))


def test_names_are_found_in_any_case(model: dict[str, Any]) -> None:
    talker = model[TALKER]
    languages = {name.title(): index for name, index in talker["codec_language_id"].items()}
    changed = spoilt(model, f"{TALKER}.codec_language_id", languages)
    changed = spoilt(changed, f"{TALKER}.spk_is_dialect", {"Dylan": "Beijing_Dialect"})
    read = ModelConfig.read(changed)
    assert read.languages == talker["codec_language_id"]
    assert read.dialects == {"dylan": "beijing_dialect"}


def test_ids_beyond_the_text_vocabulary_are_refused(model: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"the id of 'tts_\w+' must be from 0 to 99"):
        ModelConfig.read(spoilt(model, f"{TALKER}.text_vocab_size", 100))


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


@pytest.mark.parametrize("key", ["top_k", "top_p", "repetition_penalty", "temperature", "subtalker_temperature"])
def test_a_missing_sampling_default_is_named(generation: dict[str, Any], key: str) -> None:
    with pytest.raises(CheckpointError, match=rf"generation_config\.json\.{key} is missing"):
        SamplingDefaults.read(spoilt(generation, key, MISSING))


def test_no_sampling_is_temperature_zero(generation: dict[str, Any]) -> None:
    greedy = SamplingDefaults.read(generation | {"do_sample": False, "subtalker_dosample": False})
    assert (greedy.temperature, greedy.predictor_temperature) == (0.0, 0.0)


def test_a_model_and_a_codec_that_do_not_fit_are_refused(folder: Path, codec: dict[str, Any]) -> None:
    changed = spoilt(codec, "decoder_config.codebook_size", 63)
    (folder / "speech_tokenizer" / "config.json").write_text(json.dumps(changed))
    with pytest.raises(CheckpointError, match=r"predictor knows 64 codes, the codec 63"):
        Checkpoint.read(folder)


def test_a_talker_and_a_predictor_that_do_not_fit_are_refused(model: dict[str, Any]) -> None:
    for path, value in ((f"{PREDICTOR}.vocab_size", 63), (f"{TALKER}.vocab_size", 2_000)):
        with pytest.raises(CheckpointError, match=r"vocabulary of \d+ must be 1024 above the \d+ codes"):
            ModelConfig.read(spoilt(model, path, value))


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
