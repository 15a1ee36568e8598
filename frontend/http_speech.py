"""POST /v1/audio/speech: OpenAI's text-to-speech, streamed as it is made.

Here the request is matched with the model that answers and the response is put together; the body is read by
speech_order.py and made by http_utterance.py.
"""

import logging
from collections.abc import Callable
from typing import Any

from quart import Blueprint, Response, g, request

from frontend.errors import NotReady
from frontend.http_utterance import EncodedSpeech, HttpUtterance
from frontend.metrics import Metrics
from frontend.openai_errors import ApiError
from frontend.readiness import Readiness
from frontend.registry import SessionRegistry
from frontend.settings import Settings
from frontend.speech_order import SpeechOrder, read_order, voice_of
from frontend.synthesis import Description, Speech, SpeechRequest
from frontend.tracing import arriving

log = logging.getLogger(__name__)

DOOR = "http"
OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
MAX_BODY_BYTES = 1024 * 1024
# Proxies would otherwise collect the sound before they pass it on, or keep it.
STREAMING_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def add_speech(
    api: Blueprint,
    settings: Settings,
    speech_of_caller: Callable[[], Speech],
    readiness: Readiness,
    sessions: SessionRegistry,
    metrics: Metrics,
) -> None:
    """Adds the route; `speech_of_caller` is asked within each request."""

    @api.post("/v1/audio/speech")
    async def speech() -> Response:
        if sessions.draining:
            raise ApiError.of(NotReady("the server is shutting down"))
        order = read_order(await _body(), settings.max_request_chars)
        description = await readiness.require()
        if settings.strict_model:
            _require_model(order.model, description)
        voice = voice_of(order.voice, known_voices(description), settings.aliases)
        encoder = order.encoder()
        with arriving(request.headers.get):
            tally = metrics.utterance(DOOR)
        wanted = SpeechRequest(order.text, voice, order.language, order.instructions, seed=order.seed)
        speaking = EncodedSpeech(
            speech_of_caller().speak(wanted),
            encoder,
            tally,
            speed=order.speed,
            max_audio_s=settings.max_audio_s,
        )
        portions = speaking.events(len(order.text)) if order.events else speaking.portions()
        utterance = HttpUtterance(portions, tally, _log_line(order))
        await utterance.begin(sessions)
        return _response(utterance, "text/event-stream" if order.events else encoder.content_type)


def known_voices(description: Description) -> frozenset[str]:
    """Every name the loaded model takes for a voice."""
    details = description.details
    return frozenset([*details.get("voices", ()), *details.get("speakers", ())])


def model_ids(description: Description) -> list[str]:
    """The model that is loaded, and OpenAI's names it answers to."""
    return ["qwen3-tts", description.model, *OPENAI_MODELS]


async def _body() -> bytes:
    """What the client sends, of which no more is kept than may be sent."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large(f"{request.content_length} bytes")
    body = bytearray()
    async for part in request.body:
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise _too_large(f"{len(body)} bytes or more")
    return bytes(body)


def _too_large(size: str) -> ApiError:
    return ApiError(413, "body_too_large", f"the body has {size}, the limit is {MAX_BODY_BYTES}")


def _require_model(model: str | None, description: Description) -> None:
    ids = model_ids(description)
    # OpenAI dates its models: gpt-4o-mini-tts-2025-03-20.
    if model is not None and model not in ids and not model.startswith("gpt-4o-mini-tts-"):
        message = f"there is no model {model!r}; there are {', '.join(ids)}"
        raise ApiError(404, "model_not_found", message, param="model")


def _response(utterance: HttpUtterance, content_type: str) -> Response:
    response = Response(utterance, headers=STREAMING_HEADERS, content_type=content_type)
    # Quart would cut the body after a minute without a word; it ends by max_audio_s and the model's own deadlines.
    response.timeout = None
    return response


def _log_line(order: SpeechOrder) -> dict[str, Any]:
    return {
        "request": g.request_id,
        "voice": order.voice,
        "chars": len(order.text),
        "format": order.response_format,
        "events": order.events,
    }
