"""What a client of protocol v2 may say: text frames -> values, with the defaults its `start` has set.

It knows neither sockets nor models, nor whether a message fits what is going on.
"""

import json
from dataclasses import dataclass, replace
from typing import NoReturn

from frontend import messages
from frontend.encodings import UnsupportedFormat, socket_rate
from frontend.json_fields import Fields, WrongField, shown

INVALID_MESSAGE = "INVALID_MESSAGE"
TEXT_EMPTY = "TEXT_EMPTY"
TEXT_TOO_LONG = "TEXT_TOO_LONG"
UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"

MODES = ("queue", "interrupt", "concurrent")
FRAMINGS = ("plain", "tagged")
TIMESTAMPS = ("none", "segment", "word")
TYPES = ("start", "speak", "text", "flush", "end", "cancel", "ping", "stop")
MAX_ID_CHARS = 128


@dataclass(frozen=True)
class AudioFormat:
    """An encoding and a sample rate that fit together."""

    encoding: str = "pcm_s16le"
    sample_rate: int = 24_000


@dataclass(frozen=True)
class Wishes:
    """What a `start` sets for all that follow and a `speak` may set for itself."""

    voice: str | None = None
    language: str | None = None
    format: AudioFormat = AudioFormat()
    mode: str = "queue"
    timestamps: str = "segment"
    progress: bool = False
    strict_voice: bool = False


@dataclass(frozen=True)
class Start:
    """Sets the wishes of all requests that follow, and how binary frames are made."""

    wishes: Wishes
    framing: str = "plain"


@dataclass(frozen=True)
class Speak:
    """A request; its text is whole when `final`, else the beginning of one that is still being written."""

    request_id: str | None
    text: str
    final: bool
    wishes: Wishes
    instructions: str | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_seconds: float | None = None


@dataclass(frozen=True)
class Text:
    """More text of a request."""

    request_id: str
    text: str


@dataclass(frozen=True)
class Flush:
    """What a request was given so far is to be spoken to its end."""

    request_id: str


@dataclass(frozen=True)
class End:
    """A request has all its text."""

    request_id: str


@dataclass(frozen=True)
class Cancel:
    """Ends one request or, without an id, all of them."""

    request_id: str | None = None
    played_ms: float | None = None


@dataclass(frozen=True)
class Ping:
    """Asks for a pong with the same id."""

    id: str | None = None


@dataclass(frozen=True)
class Stop:
    """Ends the session, at once or when all was spoken."""

    drain: bool = False


Message = Start | Speak | Text | Flush | End | Cancel | Ping | Stop


class InvalidMessage(Exception):
    """What the client sent cannot be served, whatever goes on; `speaks` tells that it was a `speak`."""

    def __init__(self, code: str, message: str, request_id: str | None = None, *, speaks: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.speaks = speaks


def asks_for_v2(raw: str) -> bool:
    """Whether a socket's first message leaves protocol v1."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("type") == "start" and fields.get("protocol") == 2


def parse(raw: str | bytes, standing: Start, max_text_chars: int) -> Message:
    """The message in one frame; `standing` is the last `start`. Raises InvalidMessage."""
    if isinstance(raw, bytes):
        raise InvalidMessage(INVALID_MESSAGE, "binary messages are not part of this protocol")
    try:
        values = messages.decode(raw)
    except messages.InvalidMessage as invalid:
        raise InvalidMessage(INVALID_MESSAGE, str(invalid)) from None
    kind, known_id = values.get("type"), values.get("request_id")
    readable = isinstance(known_id, str) and 1 <= len(known_id) <= MAX_ID_CHARS
    refusal_id = known_id if readable and kind in ("speak", "text", "flush", "end") else None
    try:
        return _message(Fields(values), standing, max_text_chars)
    except WrongField as wrong:
        code, text = INVALID_MESSAGE, f"Failed to parse message: {wrong}"
    except UnsupportedFormat as unsupported:
        code, text = UNSUPPORTED_FORMAT, str(unsupported)
    except InvalidMessage as invalid:
        code, text = invalid.code, str(invalid)
    raise InvalidMessage(code, text, refusal_id, speaks=kind == "speak")


def _message(fields: Fields, standing: Start, max_text_chars: int) -> Message:
    kind = fields.required("type")
    if kind == "start":
        return _start(fields)
    if kind == "speak":
        return _speak(fields, standing, max_text_chars)
    if kind == "cancel":
        return Cancel(fields.string("request_id", None), fields.number("played_ms", 0, 1e9))
    if kind == "ping":
        return Ping(fields.string("id", None, limit=MAX_ID_CHARS))
    if kind == "stop":
        return Stop(fields.boolean("drain", False))
    if kind not in TYPES:
        expected = ", ".join(f"`{name}`" for name in TYPES)
        raise WrongField(f"unknown type {shown(kind)}, expected one of {expected}")
    request_id = fields.required("request_id")
    if kind == "text":
        return Text(request_id, _text(fields, max_text_chars))
    return Flush(request_id) if kind == "flush" else End(request_id)


def _start(fields: Fields) -> Start:
    protocol = fields.integer("protocol", -(10**9), 10**9)
    if protocol not in (2, None):
        _refuse(INVALID_MESSAGE, f"this socket speaks protocol 2, not {protocol}")
    chosen = fields.inner("format")
    framing = "plain" if chosen is None else chosen.choice("framing", FRAMINGS, "plain")
    return Start(_wishes(fields, Wishes(), framing), framing)


def _speak(fields: Fields, standing: Start, max_text_chars: int) -> Speak:
    request_id = fields.string("request_id", None, limit=MAX_ID_CHARS)
    final = fields.boolean("final", True)
    text = _text(fields, max_text_chars)
    if final and not text.strip():
        _refuse(TEXT_EMPTY, "text is blank")
    instructions = fields.string("instructions", None)
    problem = None if instructions is None else messages.unspeakable(instructions)
    if instructions is not None and len(instructions) > max_text_chars:
        _refuse(TEXT_TOO_LONG, f"instructions have {len(instructions)} characters, the limit is {max_text_chars}")
    if problem is not None:
        _refuse(INVALID_MESSAGE, problem.replace("text", "instructions", 1))
    return Speak(
        request_id,
        text,
        final,
        _wishes(fields, standing.wishes, standing.framing),
        instructions,
        seed=fields.integer("seed", 0, 2**64 - 1),
        temperature=fields.number("temperature", 0, 10),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.integer("top_k", 0, 1_000_000),
        max_seconds=fields.number("max_seconds", 0.08, 1e6),
    )


def _wishes(fields: Fields, default: Wishes, framing: str) -> Wishes:
    wishes = replace(
        default,
        voice=fields.string("voice", default.voice, limit=messages.MAX_NAME_CHARS),
        language=fields.string("language", default.language, limit=messages.MAX_NAME_CHARS),
        format=_format(fields.inner("format"), default.format),
        mode=fields.choice("mode", MODES, default.mode),
        timestamps=fields.choice("timestamps", TIMESTAMPS, default.timestamps),
        progress=fields.boolean("progress", default.progress),
        strict_voice=fields.boolean("strict_voice", default.strict_voice),
    )
    if wishes.mode == "concurrent" and framing != "tagged":
        _refuse(INVALID_MESSAGE, "mode `concurrent` needs the framing `tagged`, which `start` chooses")
    return wishes


def _format(fields: Fields | None, default: AudioFormat) -> AudioFormat:
    if fields is None:
        return default
    encoding = fields.string("encoding", default.encoding) or default.encoding
    rate = fields.integer("sample_rate", 1, 10**9)
    if rate is None and encoding == default.encoding:
        rate = default.sample_rate
    return AudioFormat(encoding, socket_rate(encoding, rate))


def _text(fields: Fields, max_text_chars: int) -> str:
    text = fields.required("text")
    if len(text) > max_text_chars:
        _refuse(TEXT_TOO_LONG, f"text has {len(text)} characters, the limit is {max_text_chars}")
    problem = messages.unspeakable(text)
    if problem is not None:
        _refuse(INVALID_MESSAGE, problem)
    return text


def _refuse(code: str, message: str) -> NoReturn:
    raise InvalidMessage(code, message)
