"""The engine's sizes: what config.pbtxt may set, and what it does set."""

from dataclasses import asdict, fields

import pytest

from tests.conftest import Contract
from tts_engine import EngineConfig, SettingsError


def test_parameters_become_sizes() -> None:
    config = EngineConfig.from_parameters({"slots": "3", "default_voice": "anna", "pretokenizer": "mistral"})
    assert config == EngineConfig(slots=3, default_voice="anna", pretokenizer="mistral")
    assert EngineConfig.from_parameters({}) == EngineConfig()


def test_an_unknown_parameter_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(SettingsError) as caught:
        EngineConfig.from_parameters({"slot": "3"})
    assert str(caught.value) == f"unknown parameter 'slot'; known: {', '.join(sorted(asdict(EngineConfig())))}"


@pytest.mark.parametrize(
    ("key", "text", "complaint"),
    [
        ("slots", "many", "parameter slots must be of type int, got 'many'"),
        ("slots", "1.5", "parameter slots must be of type int, got '1.5'"),
        ("slots", "", "parameter slots must be of type int, got ''"),
        ("text_idle_seconds", "soon", "parameter text_idle_seconds must be of type float, got 'soon'"),
        ("max_waiting", "-1", "max_waiting must not be negative, got -1"),
        ("voice_cache_mb", "-1", "voice_cache_mb must not be negative, got -1"),
        ("prefix_cache_mb", "-1", "prefix_cache_mb must not be negative, got -1"),
        ("pretokenizer", "gpt2", "pretokenizer must be 'qwen2' or 'mistral', got 'gpt2'"),
        ("codec_precision", "half", "codec_precision must be 'auto' or 'float32' or 'bfloat16', got 'half'"),
    ],
)
def test_a_bad_size_is_refused_by_name(key: str, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        EngineConfig.from_parameters({key: text})
    assert str(caught.value) == complaint


POSITIVE = (
    *("max_slots", "max_text_tokens", "segment_tokens", "max_instruct_tokens", "max_reference_text_tokens"),
    *("max_frames", "max_total_frames", "text_idle_seconds"),
)


@pytest.mark.parametrize("key", POSITIVE)
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_that_must_be_positive_is_refused_by_name(key: str, value: int) -> None:
    with pytest.raises(SettingsError, match=f"{key} must be above 0, got {value}"):
        EngineConfig.from_parameters({key: str(value)})
    assert getattr(EngineConfig.from_parameters({key: "1"}), key) == 1


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_time_that_never_comes_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="text_idle_seconds"):
        EngineConfig.from_parameters({"text_idle_seconds": text})


MAY_BE_ZERO = ("slots", "max_waiting", "max_wait_seconds", "parked_mb", "voice_cache_mb", "prefix_cache_mb")


@pytest.mark.parametrize("key", MAY_BE_ZERO)
def test_slots_need_not_be_counted_nobody_need_be_allowed_to_wait_and_nothing_need_be_kept(key: str) -> None:
    assert getattr(EngineConfig.from_parameters({key: "0"}), key) == 0


def test_every_number_has_a_bound() -> None:
    numbers = {field.name for field in fields(EngineConfig) if isinstance(field.default, int | float)}
    assert numbers == {*POSITIVE, *MAY_BE_ZERO}


def test_memory_is_given_in_mebibytes() -> None:
    config = EngineConfig(voice_cache_mb=3, prefix_cache_mb=5, parked_mb=7)
    assert (config.voice_cache_bytes, config.prefix_cache_bytes) == (3 * 2**20, 5 * 2**20)
    assert config.parked_bytes == 7 * 2**20


def test_config_pbtxt_sets_every_size_and_to_its_default(contract: Contract) -> None:
    given = {key: value.string_value for key, value in contract.parameters.items()}
    assert set(given) == {field.name for field in fields(EngineConfig)}
    assert EngineConfig.from_parameters(given) == EngineConfig()


def test_the_longest_prompt_and_the_longest_generation_fit_a_slot() -> None:
    config = EngineConfig(
        segment_tokens=10, max_instruct_tokens=5, max_reference_text_tokens=3, max_frames=7, max_text_tokens=1_000
    )
    markup = 5 + 3 + 6 + 2  # around the instruct, the role, the codec prefix, the text's end
    recording = 1 + 375  # the beginning of the codec track, and 30 s
    assert config.max_prompt_length >= 10 + 5 + 3 + markup + recording
    assert config.max_length == config.max_prompt_length + 7
