"""The HTTP API as one blueprint: its routes, OpenAI's shape for every error, and an id for every request.

It knows neither sockets nor how callers are told apart; both are passed in.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quart import Blueprint, Quart, Response, g, has_request_context, request
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing.exceptions import WebsocketMismatch

from frontend.api_page import page
from frontend.entrance import answer
from frontend.errors import SpeechError
from frontend.http_models import add_models
from frontend.http_speech import DOOR, add_speech
from frontend.http_voices import MAX_UPLOAD_BYTES, add_voices
from frontend.metrics import Metrics
from frontend.openai_errors import ApiError
from frontend.readiness import Readiness
from frontend.registry import SessionRegistry
from frontend.settings import Settings
from frontend.synthesis import Speech

DESCRIPTION = Path(__file__).parent / "openapi.json"
# Multipart framing and the other fields of an upload come on top of the file.
MAX_BODY_BYTES = MAX_UPLOAD_BYTES + 2 * 1024 * 1024


@dataclass(frozen=True)
class Callers:
    """What the one who sent the current request has: `speech` to speak with, and whether they may change voices.

    `require_admin` raises ApiError (401 or 403) unless they may.
    """

    speech: Callable[[], Speech]
    require_admin: Callable[[], None]


def add_api(
    app: Quart,
    settings: Settings,
    callers: Callers,
    readiness: Readiness,
    sessions: SessionRegistry,
    metrics: Metrics,
) -> None:
    """Adds every route of the HTTP API to the application."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    api = Blueprint("api", __name__)
    add_speech(api, settings, callers.speech, readiness, sessions, metrics)
    add_models(api, readiness)
    add_voices(api, settings, callers.require_admin, readiness)
    _add_description(api)
    _add_request_ids(api)
    _add_errors(app, api, metrics)
    app.register_blueprint(api)


def _add_request_ids(api: Blueprint) -> None:
    @api.before_request
    async def name_request() -> None:
        g.request_id = _new_id()

    @api.after_request
    async def tell_id(response: Response) -> Response:
        # One that was turned away at the door has no name yet.
        response.headers["X-Request-Id"] = g.get("request_id") or _new_id()
        return response


def _new_id() -> str:
    return "req_" + secrets.token_hex(12)


def _add_errors(app: Quart, api: Blueprint, metrics: Metrics) -> None:
    @api.errorhandler(ApiError)
    async def refuse(failure: ApiError) -> Response:
        if request.path.endswith("/audio/speech"):
            metrics.refused(DOOR, failure.code)
        return answer(failure)

    @api.errorhandler(SpeechError)
    async def refuse_speech(failure: SpeechError) -> Response:
        return await refuse(ApiError.of(failure))

    # Before a route is found there is no blueprint, so a wrong path or method is the application's to answer.
    @app.errorhandler(HTTPException)
    async def refuse_request(failure: HTTPException) -> Response | HTTPException:
        # A WebSocket's handshake has no request; its client sees the status alone.
        if not has_request_context():
            return failure
        if request.method == "GET" and not request.path.startswith(("/v1/", "/api/v1/")):
            return failure  # a person at a browser
        code = (failure.name or "error").lower().replace(" ", "_")
        message = failure.description
        if isinstance(failure, WebsocketMismatch):
            message = "this path is for WebSockets alone"
        elif isinstance(failure, NotFound):
            message = f"nothing is at {request.path[:80]!r}; speech is at /v1/audio/speech, and /docs lists the rest"
        return await refuse(ApiError(failure.code or 500, code, message or failure.name))


def _add_description(api: Blueprint) -> None:
    text = DESCRIPTION.read_text(encoding="utf-8")
    html = page(json.loads(text))

    @api.get("/openapi.json")
    async def openapi() -> Response:
        return Response(text, content_type="application/json")

    @api.get("/docs")
    async def docs() -> Response:
        # It runs no code and loads nothing but our own style.
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'"}
        return Response(html, content_type="text/html; charset=utf-8", headers=headers)
