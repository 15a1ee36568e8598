"""Settings come from the environment or are an error that helps."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from frontend.settings import Settings, SettingsError, load


def test_the_defaults_are_those_of_the_protocol() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.triton_url, settings.model) == (
        "127.0.0.1",
        8080,
        "localhost:8001",
        "qwen3_tts",
    )
    assert (settings.max_message_bytes, settings.max_text_chars, settings.max_waiting) == (65536, 5000, 8)
    assert (settings.message_rate_per_s, settings.message_burst, settings.send_timeout_s) == (30, 60, 10)


def test_a_variable_of_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_PORT", "9000")
    assert load().port == 9000


def test_several_addresses_and_a_balancer_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_TRITON_URLS", "one:8001,two:8001")
    monkeypatch.setenv("FRONTEND_TRITON_BALANCED", "true")
    with pytest.raises(SettingsError, match=r"FRONTEND_TRITON_BALANCED=true: contradicts FRONTEND_TRITON_URLS"):
        load()


def test_an_unknown_variable_is_an_error_that_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_TRITON", "x")
    with pytest.raises(
        SettingsError, match=r"unknown setting FRONTEND_TRITON; the known ones are .*FRONTEND_TRITON_URL"
    ):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PROBE_S", "0"),
        ("MAX_WAITING", "-1"),
        ("STALL_S", "inf"),
        ("VOICES", "/nowhere"),
        ("TRITON_URL", "http://triton:8000"),
    ],
)
def test_a_value_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("FRONTEND_" + name, value)
    with pytest.raises(SettingsError, match=f"FRONTEND_{name}={value}: "):
        load()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_the_process_says_in_one_line_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_PORTS", "1")
    ended = subprocess.run([sys.executable, "-m", "frontend"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("frontend: unknown setting FRONTEND_PORTS; the known ones are ")
    assert ended.stderr.count("\n") == 1
