"""The HTTP and WebSocket routes, and what lives as long as they are served.

What makes speech is passed in. It knows neither protocol messages nor how the server is run.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from typing import Any, cast

from quart import Quart, websocket
from quart.wrappers import Websocket

from frontend.errors import SpeechError
from frontend.intake import BoundedWebsocket, QuartSocket
from frontend.readiness import Readiness
from frontend.registry import SessionRegistry
from frontend.session import Session
from frontend.settings import Settings
from frontend.synthesis import SAMPLE_RATE, Description, Speech

log = logging.getLogger(__name__)


def create_app(settings: Settings, speech: Speech, registry: SessionRegistry | None = None) -> Quart:
    """The application; `registry` is shared with whoever shuts the server down."""
    app = Quart("frontend")
    app.asgi_websocket_class = BoundedWebsocket
    sessions = registry if registry is not None else SessionRegistry()
    readiness = Readiness(speech, period_s=settings.ready_period_s, fresh_s=settings.ready_fresh_s)
    _add_lifetime(app, readiness)
    _add_health(app, readiness, sessions)
    _add_speak(app, settings, speech, readiness, sessions)
    return app


def _add_lifetime(app: Quart, readiness: Readiness) -> None:
    @app.while_serving
    async def watch_readiness() -> AsyncGenerator[None, None]:
        watching = asyncio.create_task(readiness.watch(), name="readiness")
        yield
        watching.cancel()
        await asyncio.wait({watching})
        if not watching.cancelled():
            log.error("the readiness watch had failed", exc_info=watching.exception())


def _add_health(app: Quart, readiness: Readiness, sessions: SessionRegistry) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        description = readiness.description
        known = {} if description is None else {"model": description.label}
        return {"status": "alive", "sessions": len(sessions)} | known

    @app.get("/readyz")
    async def readyz() -> tuple[dict[str, Any], int]:
        if sessions.draining:
            return {"status": "not ready", "reason": "the server is shutting down"}, 503
        try:
            description = await readiness.require()
        except SpeechError as failure:
            return {"status": "not ready", "reason": str(failure)}, 503
        return _ready(description), 200


def _ready(description: Description) -> dict[str, Any]:
    body: dict[str, Any] = {"status": "ready", "model": description.label, "sample_rate": SAMPLE_RATE}
    body |= {key: description.details[key] for key in ("type", "size", "default_voice") if key in description.details}
    if description.untrained_demo:
        body["notice"] = "untrained demo: the weights are random, what you hear is noise"
    return body


def _add_speak(app: Quart, settings: Settings, speech: Speech, readiness: Readiness, sessions: SessionRegistry) -> None:
    @app.websocket("/api/v1/speak")
    @app.websocket("/v1/audio/speech/ws")
    async def speak() -> tuple[str, int] | None:
        if sessions.draining:
            return "the server is shutting down", 503
        await websocket.accept()
        # The proxy is bound to this task's context; the session's tasks get the object behind it.
        socket = QuartSocket(cast(Websocket, websocket._get_current_object()))  # type: ignore[attr-defined]
        session = Session(socket, speech, readiness, settings, "s_" + secrets.token_hex(8))
        with sessions.tracked(session):
            await session.run()
        return None
