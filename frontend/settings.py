"""Environment variables FRONTEND_* -> one frozen Settings, read once at the start.

Times are seconds, sizes name their unit. An unknown FRONTEND_* variable is an error that lists the known ones.
"""

import os
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "FRONTEND_"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class SettingsError(Exception):
    """The environment does not describe a frontend; the message is one line for the operator."""


class Settings(BaseSettings):
    """Addresses and limits of the frontend."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    triton_url: str = Field(default="localhost:8001", description="gRPC address of Triton")
    model: str = "qwen3_tts"

    ready_period_s: Seconds = Field(default=1.0, description="time between two describe requests")
    ready_fresh_s: Seconds = Field(default=2.0, description="age up to which an answer proves readiness")
    describe_timeout_s: Seconds = 2.0
    probe_s: Seconds = Field(default=1.0, description="silence of an utterance after which the model is probed")
    stall_s: Seconds = Field(default=60.0, description="silence after which an utterance is given up")
    drain_s: Seconds = Field(default=20.0, description="time running utterances get at shutdown")

    max_message_bytes: Count = 65_536
    max_text_chars: Count = 5_000
    max_waiting: Annotated[int, Field(ge=0)] = Field(default=8, description="waiting utterances per socket")
    max_audio_s: Seconds = Field(default=180.0, description="audio of one utterance, cut there")
    max_buffered_audio_s: Seconds = Field(default=2.0, description="unsent audio kept per socket")
    message_rate_per_s: Seconds = 30.0
    message_burst: Count = 60
    flood_rate_per_s: Seconds = Field(default=200.0, description="messages of any kind; above it the socket is closed")
    send_timeout_s: Seconds = Field(default=10.0, description="a send that blocks longer ends the socket")
    idle_timeout_s: Seconds = 120.0
    max_session_s: Seconds = 7_200.0


def load() -> Settings:
    """Settings from the process environment.

    Raises SettingsError naming every unknown variable, or the first value that does not fit.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; the known ones are {', '.join(sorted(known))}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(f"{name}={first['input']}: {first['msg']}") from None
