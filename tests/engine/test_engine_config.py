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
        ("slots", "many", "parameter slots must be a whole number, got 'many'"),
        ("slots", "1.5", "parameter slots must be a whole number, got '1.5'"),
        ("slots", "", "parameter slots must be a whole number, got ''"),
        ("slots", "0", "slots must be at least 1, got 0"),
        ("max_text_tokens", "0", "max_text_tokens must be at least 1, got 0"),
        ("max_instruct_tokens", "-1", "max_instruct_tokens must be at least 1, got -1"),
        ("max_frames", "0", "max_frames must be at least 1, got 0"),
        ("max_waiting", "-1", "max_waiting must not be negative, got -1"),
        ("pretokenizer", "gpt2", "pretokenizer must be 'qwen2' or 'mistral', got 'gpt2'"),
    ],
)
def test_a_bad_size_is_refused_by_name(key: str, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        EngineConfig.from_parameters({key: text})
    assert str(caught.value) == complaint


def test_nobody_need_be_allowed_to_wait() -> None:
    assert EngineConfig(max_waiting=0).max_waiting == 0


def test_config_pbtxt_sets_every_size_and_to_its_default(contract: Contract) -> None:
    given = {key: value.string_value for key, value in contract.parameters.items()}
    assert set(given) == {field.name for field in fields(EngineConfig)}
    assert EngineConfig.from_parameters(given) == EngineConfig()


def test_the_longest_prompt_and_the_longest_utterance_fit_a_slot() -> None:
    config = EngineConfig(max_text_tokens=10, max_instruct_tokens=5, max_frames=7)
    markup = 5 + 3 + 6 + 2  # around the instruct, the role, the codec prefix, the text's end
    assert config.max_prompt_length >= 10 + 5 + markup
    assert config.max_length == config.max_prompt_length + 7
