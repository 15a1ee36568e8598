"""The JSON wire of protocol v1: parse what a client sent, write what it gets. Pure text and values.

Client: `speak` (text; optional voice; `language` and `request_id` are additive courtesies: a string is honoured,
anything else ignored), `cancel`, `stop`. Server: `audio_end`, `error`. It knows neither sockets nor models.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, NoReturn

from frontend import errors
from frontend.json_fields import WrongJson, decoded, json_type, shown
from frontend.synthesis import SAMPLE_RATE

INVALID_MESSAGE = "INVALID_MESSAGE"
TTS_NOT_READY = "TTS_NOT_READY"
TTS_LOAD_FAILED = "TTS_LOAD_FAILED"
TTS_INFERENCE_FAILED = "TTS_INFERENCE_FAILED"

# One row per class of the error tree; a class without a row has its parent's code.
CODES: dict[type[errors.SpeechError], str] = {
    errors.InvalidRequest: INVALID_MESSAGE,
    errors.Unsupported: INVALID_MESSAGE,
    errors.NotReady: TTS_NOT_READY,
    errors.LoadFailed: TTS_LOAD_FAILED,
    errors.SpeechError: TTS_INFERENCE_FAILED,
}

_LATER_TYPES = frozenset({"text", "flush", "end", "ping"})
MAX_NAME_CHARS = 256
# Unicode's category Cc, but for tab and line ends.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Speak:
    """A valid `speak`: normalised text and the wishes that came with it."""

    text: str
    voice: str | None = None
    language: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class Cancel:
    """End the active utterance and every waiting one."""


@dataclass(frozen=True)
class Stop:
    """Cancel everything and close."""


Message = Speak | Cancel | Stop


class InvalidMessage(Exception):
    """What the client sent is not a message; carries the request id where one could be read."""

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


def parse(raw: str, max_text_chars: int) -> Message:
    """The message in one text frame. Raises InvalidMessage."""
    fields = decode(raw)
    kind = _required_string(fields, "type", None)
    if kind == "speak":
        return _speak(fields, max_text_chars)
    if kind == "cancel":
        return Cancel()
    if kind == "stop":
        return Stop()
    if kind == "start" and fields.get("protocol") == 2:
        raise InvalidMessage("`start` with protocol 2 must be the first message of its socket")
    if kind == "start":
        raise InvalidMessage("`start` asks for a protocol this server does not speak; it speaks protocol 1")
    if kind in _LATER_TYPES:
        raise InvalidMessage(f"`{kind}` does not belong to protocol 1, which this socket speaks")
    _fail(f"unknown type {shown(kind)}, expected one of `speak`, `cancel`, `stop`")


def audio_end(cancelled: bool, request_id: str | None) -> str:
    """The terminal of an utterance that did not fail."""
    message: dict[str, Any] = {"type": "audio_end"}
    if request_id is not None:
        message["request_id"] = request_id
    message |= {"sample_rate": SAMPLE_RATE, "format": "pcm_s16le", "channels": 1, "cancelled": cancelled}
    return encode(message)


def error(code: str, message: str, request_id: str | None) -> str:
    """A refusal, or the terminal of an utterance that failed; `recoverable` is always false in v1."""
    fields: dict[str, Any] = {"type": "error", "code": code, "message": message, "recoverable": False}
    if request_id is not None:
        fields["request_id"] = request_id
    return encode(fields)


def code_of(failure: errors.SpeechError) -> str:
    """The JSON code of an error of the tree."""
    return next(CODES[kind] for kind in type(failure).__mro__ if kind in CODES)


def decode(raw: str) -> dict[str, Any]:
    """The fields of one JSON object that can be sent back and spoken. Raises InvalidMessage."""
    try:
        return decoded(raw)
    except WrongJson as wrong:
        _fail(str(wrong))


def _speak(fields: dict[str, Any], max_text_chars: int) -> Speak:
    request_id = _optional_string(fields, "request_id")
    text = unicodedata.normalize("NFC", _required_string(fields, "text", request_id)).strip()
    voice = fields.get("voice")
    if voice is not None and not isinstance(voice, str):
        _fail(f"field `voice` must be a string, not {json_type(voice)}", request_id)
    problem = _problem(text, max_text_chars)
    if problem is not None:
        raise InvalidMessage(problem, request_id)
    language = _optional_string(fields, "language")
    # Cut, an endless name is as unknown as before, and no longer fills the logs on its way.
    return Speak(text, voice and voice[:MAX_NAME_CHARS], language and language[:MAX_NAME_CHARS], request_id)


def _problem(text: str, max_text_chars: int) -> str | None:
    if not text:
        return "text is blank"
    if len(text) > max_text_chars:
        return f"text has {len(text)} characters, the limit is {max_text_chars}"
    return unspeakable(text)


def unspeakable(text: str) -> str | None:
    """Why a text may not reach the model: control characters and the model's own tokens; None when it may."""
    control = _CONTROL.search(text)
    if control is not None:
        return f"text has the control character U+{ord(control.group()):04X} at position {control.start()}"
    # Found by hand: an expression would look for the end from every beginning anew, for a second in a long text.
    begin = text.find("<|")
    end = text.find("|>", begin + 2) if begin >= 0 else -1
    if end >= 0:
        return f"text has the model token {shown(text[begin : end + 2])} at position {begin}"
    return None


def _required_string(fields: dict[str, Any], name: str, request_id: str | None) -> str:
    if name not in fields:
        _fail(f"missing field `{name}`", request_id)
    value = fields[name]
    if not isinstance(value, str):
        _fail(f"field `{name}` must be a string, not {json_type(value)}", request_id)
    return value


def _optional_string(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _fail(reason: str, request_id: str | None = None) -> NoReturn:
    raise InvalidMessage(f"Failed to parse message: {reason}", request_id)


def encode(message: dict[str, Any]) -> str:
    """The JSON text of a message."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
