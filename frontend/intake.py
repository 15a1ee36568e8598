"""The inbound side of a WebSocket under Quart: a bounded queue, and every frame kind told apart.

Quart's own queue has no bound, so one client could fill the memory; and an empty binary frame breaks its reading.
It knows nothing of what the messages mean.
"""

import asyncio
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
from quart import Quart
from quart.asgi import ASGIWebsocketConnection
from quart.wrappers import Websocket

MAX_UNREAD = 8


class BoundedWebsocket(ASGIWebsocketConnection):
    """A connection whose unread messages press back on TCP; for `app.asgi_websocket_class`."""

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self.queue: asyncio.Queue[str | bytes] = asyncio.Queue(MAX_UNREAD)

    async def handle_messages(self, receive: ASGIReceiveCallable) -> None:
        """Queues what arrives until the peer has left; Quart cancels the route then."""
        while True:
            event: dict[str, Any] = dict(await receive())
            if event["type"] == "websocket.receive":
                text = event.get("text")
                await self.queue.put(text if text is not None else event.get("bytes") or b"")
            elif event["type"] == "websocket.disconnect":
                return

    async def close_connection(self, send: ASGISendCallable, code: int, reason: str) -> None:
        """Closes once; a close that is cut off, because the peer does not read, counts as done."""
        if not self._closed:
            self._closed = True
            await send({"type": "websocket.close", "code": code, "reason": reason})


class QuartSocket:
    """Quart's request-bound websocket as the plain socket a session uses."""

    def __init__(self, websocket: Websocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        return await self._websocket.receive()

    async def send(self, data: str | bytes) -> None:
        await self._websocket.send(data)

    async def close(self, code: int, reason: str) -> None:
        await self._websocket.close(code, reason)
