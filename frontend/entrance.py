"""What stands between the network and the routes: the doors in front of them, tokens for browsers, and the page.

It translates Quart's requests for doors.py and page.py, and decides nothing itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from quart import Quart, Response, g, jsonify, request, websocket
from quart.wrappers.base import BaseRequestWebsocket

from frontend.addresses import client_address
from frontend.api_keys import Scope
from frontend.doors import Caller, Doors, Knock, Refusal
from frontend.openai_errors import ApiError
from frontend.page import INDEX, Page

log = logging.getLogger(__name__)

# Whoever has not said who he is may see the page, read the documents and ask whether the server is well.
OPEN = frozenset({"/", "/static/<name>", "/healthz", "/readyz", "/openapi.json", "/docs"})


def add_page(app: Quart, page: Page) -> None:
    """`GET /` and the files it needs. The application must have no static folder of its own."""

    async def answer(name: str) -> Response:
        made = page.answer(name, request.headers.get("If-None-Match"))
        return Response(made.body, made.status, dict(made.headers))

    @app.get("/")
    async def index() -> Response:
        return await answer(INDEX)

    @app.get("/static/<name>")
    async def file(name: str) -> Response:
        return await answer(name)


def add_doors(app: Quart, doors: Doors, proxies: int, refused: Callable[[str, str], None]) -> None:
    """Every route but the open ones asks who comes; `POST /v1/tokens` gives a browser its token.

    refused: told at which door (`websocket`, `http`) and with which code somebody was sent away.
    """

    async def admit(arrival: BaseRequestWebsocket, door: str, protocols: tuple[str, ...] = ()) -> Response | None:
        rule = arrival.url_rule
        if rule is None or rule.rule in OPEN:
            _recognise(arrival, doors, proxies)
            return None
        if arrival.method == "OPTIONS":
            return _preflight(arrival, doors)
        try:
            g.caller = doors.admit(_knock(arrival, protocols, proxies), _now())
        except Refusal as refusal:
            log.info("refused status=%d code=%s path=%s", refusal.status, refusal.code, rule.rule)
            refused(door, refusal.code)
            return refuse(refusal)
        return None

    @app.before_request
    async def before_request() -> Response | None:
        return await admit(request, "http")

    @app.before_websocket
    async def before_websocket() -> Response | None:
        return await admit(websocket, "websocket", tuple(websocket.requested_subprotocols))

    @app.after_request
    async def after_request(response: Response) -> Response:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.update(_cross_origin(request.headers.get("Origin"), doors))
        return response

    _add_tokens(app, doors)


def _add_tokens(app: Quart, doors: Doors) -> None:
    @app.post("/v1/tokens")
    async def tokens() -> Response:
        try:
            token, lifetime_s = doors.issue_token(caller(), _now())
        except Refusal as refusal:
            return refuse(refusal)
        made = jsonify({"token": token, "expires_in": round(lifetime_s)})
        made.headers["Cache-Control"] = "no-store"
        return made


def caller() -> Caller:
    """Who made the request or opened the socket that is being served. For guarded routes only."""
    known: Caller = g.caller
    return known


def is_admin() -> bool:
    """Whether whoever asks has shown an admin's key; on open routes too, where it need not be shown."""
    known: Caller | None = g.get("caller")
    return known is not None and known.may(Scope.ADMIN)


def _recognise(arrival: BaseRequestWebsocket, doors: Doors, proxies: int) -> None:
    """Remembers who it is, where somebody says so who need not; a key that is wrong makes nobody of them."""
    if "Authorization" in arrival.headers:
        with contextlib.suppress(Refusal):
            g.caller = doors.admit(_knock(arrival, (), proxies), _now())


def refuse(refusal: Refusal) -> Response:
    """A refusal as `answer` makes it."""
    return answer(ApiError(refusal.status, refusal.code.lower(), str(refusal), retry_after_s=refusal.retry_after_s))


def answer(error: ApiError) -> Response:
    """An error in the shape OpenAI's clients understand; before an upgrade, too."""
    made = jsonify(error.body)
    made.status_code = error.status
    made.headers.update(error.headers)
    if error.status == 401:
        made.headers["WWW-Authenticate"] = "Bearer"
    return made


def _knock(arrival: BaseRequestWebsocket, protocols: tuple[str, ...], proxies: int) -> Knock:
    headers = arrival.headers
    return Knock(
        address=client_address(arrival.remote_addr or "", headers.get("X-Forwarded-For"), proxies),
        host=headers.get("Host", ""),
        origin=headers.get("Origin"),
        authorization=headers.get("Authorization"),
        protocols=protocols,
    )


def _preflight(arrival: BaseRequestWebsocket, doors: Doors) -> Response:
    allowed = _cross_origin(arrival.headers.get("Origin"), doors)
    if allowed:
        methods, headers = "GET, POST, DELETE", "Authorization, Content-Type, Traceparent, Tracestate"
        allowed |= {"Access-Control-Allow-Methods": methods, "Access-Control-Allow-Headers": headers}
        allowed |= {"Access-Control-Max-Age": "600"}
    return Response(b"", 204, allowed)


def _cross_origin(origin: str | None, doors: Doors) -> dict[str, str]:
    if origin is None or not doors.listed(origin):
        return {}
    exposed = "Retry-After, X-Request-Id"
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed, "Vary": "Origin"}


def _now() -> float:
    return asyncio.get_running_loop().time()
