"""The JSON body of POST /v1/audio/speech: parse and check it. Pure text and values; it knows no routes."""

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from frontend.encodings import FILE_FORMATS, Encoder, make_file_encoder
from frontend.json_fields import Fields, WrongField, WrongJson, decoded
from frontend.messages import MAX_NAME_CHARS, unspeakable
from frontend.openai_errors import ApiError

OPENAI_VOICES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
)
MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class SpeechOrder:
    """What a client wants to hear and in which form. None leaves the choice to the model."""

    text: str
    model: str | None = None
    voice: str | None = None
    instructions: str | None = None
    language: str | None = None
    seed: int | None = None
    response_format: str = "mp3"
    sample_rate: int | None = None
    speed: float = 1.0
    events: bool = False

    def encoder(self) -> Encoder:
        """A new encoder of the format. Raises UnsupportedFormat."""
        return make_file_encoder(self.response_format, self.sample_rate)


def read_order(body: bytes, max_text_chars: int) -> SpeechOrder:
    """The order in a request's body; unknown fields are ignored, null counts as absent. Raises ApiError (400)."""
    values = _decoded(body)
    fields = Fields(values)
    with _named("input"):
        text = _text(fields.required("input"), max_text_chars)
    with _named("response_format"):
        response_format = fields.choice("response_format", tuple(FILE_FORMATS), "mp3")
    with _named("stream_format"):
        stream_format = fields.choice("stream_format", ("audio", "sse"), "audio")
    with _named("speed"):
        speed = fields.number("speed", MIN_SPEED, MAX_SPEED)
    with _named("seed"):
        seed = fields.integer("seed", 0, MAX_SEED)
    return SpeechOrder(
        text=text,
        model=_string(fields, "model"),
        voice=_voice(values, fields),
        instructions=_instructions(fields, max_text_chars),
        language=_string(fields, "language"),
        seed=seed,
        response_format=response_format,
        sample_rate=_sample_rate(fields, response_format),
        speed=1.0 if speed is None else speed,
        events=stream_format == "sse",
    )


def voice_of(wanted: str | None, known: frozenset[str], aliases: Mapping[str, str]) -> str | None:
    """The model's name of a voice: its own, what an alias stands for, or None (the default) for OpenAI's others."""
    if wanted is None or wanted in known:
        return wanted
    if wanted in aliases:
        return aliases[wanted]
    return None if wanted in OPENAI_VOICES else wanted


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return decoded(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_json", "the body is not UTF-8") from None
    except WrongJson as wrong:
        raise ApiError(400, "invalid_json", f"the body: {wrong}") from None


@contextmanager
def _named(param: str) -> Iterator[None]:
    try:
        yield
    except WrongField as failure:
        raise ApiError(400, "invalid_value", str(failure), param=param) from None


def _string(fields: Fields, name: str) -> str | None:
    with _named(name):
        return fields.string(name, None, limit=MAX_NAME_CHARS)


def _text(raw: str, max_chars: int) -> str:
    text = unicodedata.normalize("NFC", raw).strip()
    if not text:
        raise ApiError(400, "text_empty", "`input` is blank", param="input")
    if len(text) > max_chars:
        message = f"`input` has {len(text)} characters, the limit is {max_chars}"
        raise ApiError(400, "text_too_long", message, param="input")
    return _speakable(text, "input")


def _instructions(fields: Fields, max_chars: int) -> str | None:
    with _named("instructions"):
        instructions = fields.string("instructions", None)
    if instructions is None or not instructions.strip():
        return None
    if len(instructions) > max_chars:
        message = f"`instructions` has {len(instructions)} characters, the limit is {max_chars}"
        raise ApiError(400, "text_too_long", message, param="instructions")
    return _speakable(unicodedata.normalize("NFC", instructions).strip(), "instructions")


def _speakable(text: str, name: str) -> str:
    problem = unspeakable(text)
    if problem is not None:
        raise ApiError(400, "invalid_value", f"`{name}`: {problem}", param=name)
    return text


def _voice(values: dict[str, Any], fields: Fields) -> str | None:
    if not isinstance(values.get("voice"), dict):
        return _string(fields, "voice")
    with _named("voice"):
        inner = fields.inner("voice")
        return None if inner is None else inner.required("id", limit=MAX_NAME_CHARS)


def _sample_rate(fields: Fields, response_format: str) -> int | None:
    with _named("sample_rate"):
        rate = fields.integer("sample_rate", 1, 1_000_000)
    if rate is not None and rate not in FILE_FORMATS[response_format]:
        supported = ", ".join(map(str, FILE_FORMATS[response_format]))
        message = f"{response_format} has no sample rate of {rate} Hz; supported are {supported}"
        raise ApiError(400, "unsupported_format", message, param="sample_rate")
    return rate
