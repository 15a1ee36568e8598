"""What a server of protocol v2 says: one function for each message, and the code of every failure.

It knows neither sockets nor when a message is due.
"""

from dataclasses import asdict, dataclass
from typing import Any

from frontend import errors
from frontend.encodings import UnsupportedFormat
from frontend.messages import encode
from frontend.messages_v2 import INVALID_MESSAGE, UNSUPPORTED_FORMAT, Start
from frontend.settings import Settings
from frontend.synthesis import Description

SERVER = "qwen3-tts-triton/1.0"
FEATURES = ("streaming_text", "live_text", "concurrent", "marks", "progress", "opus")

VOICE_NOT_FOUND = "VOICE_NOT_FOUND"
DUPLICATE_REQUEST = "DUPLICATE_REQUEST"
UNKNOWN_REQUEST = "UNKNOWN_REQUEST"
TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
OVERLOADED = "OVERLOADED"
TTS_NOT_READY = "TTS_NOT_READY"
TTS_LOAD_FAILED = "TTS_LOAD_FAILED"
TTS_INFERENCE_FAILED = "TTS_INFERENCE_FAILED"
TTS_TIMEOUT = "TTS_TIMEOUT"
IDLE_TIMEOUT = "IDLE_TIMEOUT"
SESSION_TOO_LONG = "SESSION_TOO_LONG"
INTERNAL = "INTERNAL"

# Warnings.
TIMESTAMPS_UNAVAILABLE = "TIMESTAMPS_UNAVAILABLE"
INPUT_IGNORED = "INPUT_IGNORED"

RETRY_MS = 1_000

# One row per class of the error tree; a class without a row has its parent's code.
CODES: dict[type[errors.SpeechError], str] = {
    errors.InvalidRequest: INVALID_MESSAGE,
    errors.Unsupported: INVALID_MESSAGE,
    UnsupportedFormat: UNSUPPORTED_FORMAT,
    errors.UnknownVoice: VOICE_NOT_FOUND,
    errors.NotReady: TTS_NOT_READY,
    errors.Overloaded: OVERLOADED,
    errors.TooManyRequests: TOO_MANY_REQUESTS,
    errors.LoadFailed: TTS_LOAD_FAILED,
    errors.Stalled: TTS_TIMEOUT,
    errors.SpeechError: TTS_INFERENCE_FAILED,
}
RETRYABLE = frozenset({TOO_MANY_REQUESTS, OVERLOADED, TTS_NOT_READY})
FATAL = frozenset({TTS_LOAD_FAILED, IDLE_TIMEOUT, SESSION_TOO_LONG, INTERNAL})


@dataclass(frozen=True)
class AudioEnd:
    """The last words about an accepted request; times are milliseconds, samples those that were sent."""

    sample_rate: int
    format: str
    cancelled: bool
    reason: str
    samples: int
    ttfa_ms: int | None
    generation_ms: int
    chars: int
    tokens: int


def code_of(failure: errors.SpeechError) -> str:
    """The JSON code of an error of the tree."""
    return next(CODES[kind] for kind in type(failure).__mro__ if kind in CODES)


def ready(session_id: str, description: Description | None, standing: Start, settings: Settings) -> str:
    """The answer to a `start`; what a model that never answered would tell is null."""
    details = {} if description is None else description.details
    wishes = standing.wishes
    return _event(
        "ready",
        protocol=2,
        session_id=session_id,
        server=SERVER,
        model=None if description is None else description.label,
        voice=wishes.voice or details.get("default_voice"),
        cloning=details.get("type") == "base",
        format={**asdict(wishes.format), "channels": 1, "framing": standing.framing},
        features=FEATURES,
        limits={
            "max_message_bytes": settings.max_message_bytes,
            "max_text_chars": settings.max_text_chars,
            "max_request_chars": settings.max_request_chars,
            "max_active": settings.max_active,
            "max_queued": settings.max_waiting,
            "idle_timeout_s": settings.idle_timeout_s,
            "max_session_s": settings.max_session_s,
        },
    )


def queued(request_id: str, position: int) -> str:
    return _event("queued", request_id=request_id, position=position)


def audio_start(
    request_id: str, stream_id: int, voice: str | None, cloned: bool, rate: int, encoding: str, queue_ms: int
) -> str:
    return _event(
        "audio_start",
        request_id=request_id,
        stream_id=stream_id,
        voice=voice,
        cloned=cloned,
        sample_rate=rate,
        format=encoding,
        channels=1,
        queue_ms=queue_ms,
    )


def mark(request_id: str, index: int, text: str, char_start: int, sample_start: int, start_ms: int) -> str:
    """A segment of the text begins to sound with the audio that follows."""
    return _event(
        "mark",
        request_id=request_id,
        kind="segment",
        index=index,
        text=text,
        char_start=char_start,
        char_end=char_start + len(text),
        start_ms=start_ms,
        sample_start=sample_start,
    )


def progress(request_id: str, audio_ms: int, chars_done: int, rtf: float) -> str:
    return _event("progress", request_id=request_id, audio_ms=audio_ms, chars_done=chars_done, rtf=round(rtf, 3))


def flushed(request_id: str, flush_id: int, sample_end: int) -> str:
    return _event("flushed", request_id=request_id, flush_id=flush_id, sample_end=sample_end)


def audio_end(request_id: str, end: AudioEnd, spoken_text: str | None) -> str:
    """`spoken_text` is there when a cancel asked for it."""
    return _event(
        "audio_end",
        request_id=request_id,
        sample_rate=end.sample_rate,
        format=end.format,
        channels=1,
        cancelled=end.cancelled,
        reason=end.reason,
        samples=end.samples,
        duration_ms=round(end.samples * 1000 / end.sample_rate),
        ttfa_ms=end.ttfa_ms,
        generation_ms=end.generation_ms,
        chars=end.chars,
        tokens=end.tokens,
        **({} if spoken_text is None else {"spoken_text": spoken_text}),
    )


def warning(code: str, message: str, request_id: str) -> str:
    return _event("warning", code=code, message=message, request_id=request_id)


def error(
    code: str,
    message: str,
    request_id: str | None = None,
    *,
    accepted: bool | None = None,
    recoverable: bool | None = None,
    retry_after_ms: int | None = None,
) -> str:
    """`accepted` is for errors that answer a `speak`; what is not given follows from the code."""
    fields: dict[str, Any] = {"code": code, "message": message}
    fields["recoverable"] = code not in FATAL if recoverable is None else recoverable
    if request_id is not None:
        fields["request_id"] = request_id
    if accepted is not None:
        fields["accepted"] = accepted
    if fields["recoverable"] and code in RETRYABLE:
        fields["retry_after_ms"] = RETRY_MS if retry_after_ms is None else retry_after_ms
    return _event("error", **fields)


def pong(id: str | None) -> str:
    return _event("pong", **({} if id is None else {"id": id}))


def draining(deadline_ms: int) -> str:
    return _event("draining", deadline_ms=deadline_ms)


def _event(type: str, /, **fields: Any) -> str:
    return encode({"type": type, **fields})
