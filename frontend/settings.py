"""Environment variables FRONTEND_* -> one frozen Settings, read once at the start.

Times are seconds, sizes name their unit. An unknown FRONTEND_* variable is an error that lists the known ones.
"""

import os
import re
from typing import Annotated

from pydantic import DirectoryPath, Field, ValidationError, ValidationInfo, field_validator
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
    triton_urls: str = Field(default="", description="several addresses, comma-separated; instead of triton_url")
    triton_balanced: bool = Field(default=False, description="a balancer with several Tritons is behind triton_url")
    model: str = "qwen3_tts"

    voices: DirectoryPath | None = Field(default=None, description="the model's voices directory, where we can see it")
    voice_upload: bool = Field(default=False, description="callers with an admin key may add and remove voices")
    voice_aliases: Annotated[str, Field(pattern=r"^\s*([^=,\s]+=[^=,\s]+(\s*,\s*|\s*$))*$")] = Field(
        default="", description="alias=voice entries; OpenAI's names without one mean the default voice"
    )
    strict_model: bool = Field(default=False, description="refuse a `model` that is not one of ours")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(default=0, description="GET /metrics; 0: nowhere")

    auth: Annotated[str, Field(pattern="^(none)?$")] = Field(default="", description="`none` serves anyone, anywhere")
    api_keys: str = Field(default="", repr=False, description="label:scope:sha256 entries of scripts/make_api_key")
    origins: str = Field(default="", description="web pages besides our own, comma-separated; `*` for all")
    proxies: Annotated[int, Field(ge=0, le=8)] = Field(default=0, description="trusted proxies in front of us")
    token_lifetime_s: Seconds = Field(default=60.0, description="within which a browser uses its token")
    max_unused_tokens: Count = Field(default=10_000, description="tokens of all callers together")
    max_unused_tokens_per_key: Count = Field(default=200, description="or per address without keys")
    max_sockets_per_key: Count = 8
    max_sockets_per_address: Count = 32
    max_utterances_per_key: Count = Field(default=32, description="being made or waiting at the model")
    character_rate_per_s: Seconds = Field(default=1_000.0, description="text per key, or per address without keys")
    character_burst: Count = 60_000

    ready_period_s: Seconds = Field(default=1.0, description="time between two describe requests")
    ready_fresh_s: Seconds = Field(default=2.0, description="age up to which an answer proves readiness")
    describe_timeout_s: Seconds = 2.0
    accept_s: Seconds = Field(default=3.0, description="an utterance not taken in by then is asked for again, once")
    probe_s: Seconds = Field(default=1.0, description="silence of an utterance after which the model is probed")
    stall_s: Seconds = Field(default=60.0, description="silence after which an utterance is given up")
    drain_s: Seconds = Field(default=20.0, description="time running utterances get at shutdown")

    max_message_bytes: Count = 65_536
    max_text_chars: Count = 5_000
    max_request_chars: Count = Field(default=20_000, description="text of one request, however it came")
    max_active: Count = Field(default=4, description="utterances at once on a socket with tagged frames")
    max_waiting: Annotated[int, Field(ge=0)] = Field(default=8, description="waiting utterances per socket")
    max_audio_s: Seconds = Field(default=180.0, description="audio of one utterance, cut there")
    max_ahead_s: Seconds = Field(default=10.0, description="audio sent before it is due to be heard, protocol v2")
    text_idle_s: Seconds = Field(default=30.0, description="time a request waits for its first text, or after a flush")
    max_buffered_audio_s: Seconds = Field(default=2.0, description="unsent audio kept per socket")
    message_rate_per_s: Seconds = Field(default=30.0, description="messages that ask for work, as live text does not")
    message_burst: Count = 60
    flood_rate_per_s: Seconds = Field(default=1_000.0, description="messages of any kind; beyond it the socket closes")
    send_timeout_s: Seconds = Field(default=10.0, description="a send that blocks longer ends the socket")
    idle_timeout_s: Seconds = 120.0
    max_session_s: Seconds = 7_200.0

    @field_validator("triton_url", "triton_urls")
    @classmethod
    def _is_for_grpc(cls, addresses: str) -> str:
        if re.search(r"\bhttps?://", addresses):
            raise ValueError("must be host:port, Triton's address for gRPC, and has no http:// before it")
        return addresses

    @field_validator("triton_balanced")
    @classmethod
    def _has_one_address(cls, balanced: bool, known: ValidationInfo) -> bool:
        if balanced and known.data.get("triton_urls"):
            raise ValueError(f"contradicts {PREFIX}TRITON_URLS, whose servers are asked in turn")
        return balanced

    @field_validator("voice_upload")
    @classmethod
    def _has_voices(cls, wanted: bool, known: ValidationInfo) -> bool:
        if wanted and known.data.get("voices") is None:
            raise ValueError(f"needs {PREFIX}VOICES, the directory to put voices into")
        return wanted

    @property
    def aliases(self) -> dict[str, str]:
        """What each alias of a voice stands for."""
        pairs = [entry.strip().partition("=") for entry in self.voice_aliases.split(",") if entry.strip()]
        return {alias: voice for alias, _, voice in pairs}

    @property
    def triton_addresses(self) -> tuple[str, ...]:
        """The gRPC addresses of all Triton servers."""
        several = tuple(url for url in re.split(r"[\s,]+", self.triton_urls) if url)
        return several or (self.triton_url,)


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
        raise SettingsError(f"{name}={first['input']}: {first['msg'].removeprefix('Value error, ')}") from None
