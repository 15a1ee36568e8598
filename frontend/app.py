"""The HTTP and WebSocket routes, and what lives as long as they are served.

What makes speech is passed in. It knows neither protocol messages nor how the server is run.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator
from typing import Any, cast

from quart import Quart, Response, websocket
from quart.wrappers import Websocket

from frontend.admission import Admission, Limits
from frontend.admitted_speech import AdmittedSpeech
from frontend.conversation import SUBPROTOCOL_V2, converse
from frontend.doors import Doors
from frontend.entrance import add_doors, add_page, answer, caller, is_admin
from frontend.errors import SpeechError, TooManyRequests
from frontend.http_api import Callers, add_api
from frontend.intake import BoundedWebsocket, QuartSocket
from frontend.metrics import Metrics
from frontend.openai_errors import ApiError
from frontend.page import Page
from frontend.readiness import Readiness
from frontend.registry import SessionRegistry
from frontend.settings import Settings
from frontend.synthesis import SAMPLE_RATE, Description, Speech
from frontend.tracing import arriving

log = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    speech: Speech,
    registry: SessionRegistry | None = None,
    doors: Doors | None = None,
    metrics: Metrics | None = None,
) -> Quart:
    """The application; `registry` is shared with whoever shuts the server down.

    Without `doors` they follow from the settings, which may raise SettingsError.
    """
    app = Quart("frontend", static_folder=None)
    app.asgi_websocket_class = BoundedWebsocket
    sessions = registry if registry is not None else SessionRegistry()
    readiness = Readiness(speech, period_s=settings.ready_period_s, fresh_s=settings.ready_fresh_s)
    admission = _admission(settings, readiness)
    counted = metrics if metrics is not None else Metrics()
    counted.ready.set_function(lambda: readiness.well)
    add_doors(app, doors if doors is not None else Doors.of(settings), settings.proxies, counted.refused)
    add_page(app, Page())
    _add_lifetime(app, readiness)
    _add_health(app, readiness, sessions)
    _add_speak(app, settings, speech, readiness, sessions, admission, counted)
    callers = Callers(lambda: AdmittedSpeech(speech, admission, caller().account), _require_admin)
    add_api(app, settings, callers, readiness, sessions, counted)
    return app


def _require_admin() -> None:
    if not is_admin():
        raise ApiError(403, "forbidden", "this needs an API key with the scope `admin`")


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
            known = {"detail": failure.detail} if failure.detail and is_admin() else {}
            return {"status": "not ready", "reason": str(failure)} | known, 503
        return _ready(description), 200


def _ready(description: Description) -> dict[str, Any]:
    body: dict[str, Any] = {"status": "ready", "model": description.label, "sample_rate": SAMPLE_RATE}
    body |= {key: description.details[key] for key in ("type", "size", "default_voice") if key in description.details}
    if description.untrained_demo:
        body["notice"] = "untrained demo: the weights are random, what you hear is noise"
    return body


def _admission(settings: Settings, readiness: Readiness) -> Admission:
    limits = Limits(
        sockets_per_account=settings.max_sockets_per_key,
        sockets_per_address=settings.max_sockets_per_address,
        utterances_per_account=settings.max_utterances_per_key,
        characters_per_s=settings.character_rate_per_s,
        character_burst=settings.character_burst,
    )

    def capacity() -> int | None:
        return None if readiness.description is None else readiness.description.capacity

    return Admission(limits, capacity)


def _add_speak(
    app: Quart,
    settings: Settings,
    speech: Speech,
    readiness: Readiness,
    sessions: SessionRegistry,
    admission: Admission,
    metrics: Metrics,
) -> None:
    @app.websocket("/api/v1/speak")
    @app.websocket("/v1/audio/speech/ws")
    async def speak() -> Response | tuple[str, int] | None:
        if sessions.draining:
            return "the server is shutting down", 503
        who = caller()
        with contextlib.ExitStack() as place:
            try:
                place.enter_context(admission.socket(who.account, who.address))
            except TooManyRequests as full:
                metrics.refused("websocket", "TOO_MANY_REQUESTS")
                return answer(ApiError.of(full))
            chosen = SUBPROTOCOL_V2 if SUBPROTOCOL_V2 in websocket.requested_subprotocols else None
            await websocket.accept(subprotocol=chosen)
            # The proxy is bound to this task's context; the session's tasks get the object behind it.
            socket = QuartSocket(cast(Websocket, websocket._get_current_object()))  # type: ignore[attr-defined]
            admitted = AdmittedSpeech(speech, admission, who.account)
            session_id = "s_" + secrets.token_hex(8)
            log.info("session opened session=%s key=%s protocol=%s", session_id, who.label, chosen or "v1")
            with metrics.connection(), arriving(websocket.headers.get):
                await converse(socket, chosen, admitted, readiness, settings, sessions, session_id, metrics)
        return None
