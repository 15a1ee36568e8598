"""The doors of a running server: Triton's gRPC and the frontend's WebSocket in both protocols.

Each speaks one request and tells a `Hearing` what comes. Knows no rates and no figures.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import numpy as np
import tritonclient.grpc.aio as grpcclient
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.serving_listener import Hearing
from benchmarks.serving_load import Request
from commands.stack import MODEL

REFUSALS = frozenset({"UNAVAILABLE", "OVERLOADED", "TTS_NOT_READY", "TOO_MANY_REQUESTS"})
"""Codes that say "not now" rather than "this went wrong"."""


class TritonDoor:
    """A gRPC stream for each utterance, over one channel."""

    def __init__(self, address: str) -> None:
        self._client = grpcclient.InferenceServerClient(address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.close()

    async def speak(self, request: Request, hearing: Hearing) -> None:
        """One stream from its opening to its end."""
        async for answer, error in self._client.stream_infer(_one(request)):
            now = time.monotonic()
            if error is not None:
                return hearing.end("error", error.message())
            hearing.heard(answer.as_numpy("audio").tobytes(), now)
            info = answer.as_numpy("info")
            facts = {} if info is None else json.loads(info.item())
            if "error" in facts:
                refused = facts["error"]["code"] in REFUSALS
                return hearing.end("refused" if refused else "error", facts["error"]["message"])
            if "reason" in facts:
                return hearing.end("complete")
        return hearing.end("error", "the stream ended without a last word")


async def _one(request: Request) -> AsyncIterator[dict[str, Any]]:
    inputs = []
    for name, kind, value in (
        ("text", "BYTES", np.array([request.text.encode()], dtype=np.object_)),
        ("seed", "UINT64", np.array([request.seed], dtype=np.uint64)),
    ):
        tensor = grpcclient.InferInput(name, [1], kind)
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    yield {"model_name": MODEL, "inputs": inputs}


class SpeakSocket(WSListener):
    """A WebSocket on which one utterance at a time is spoken; version: of the protocol, 1 or 2."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._transport: WSTransport | None = None
        self._hearing: Hearing | None = None
        self._done: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, url: str, version: int) -> SpeakSocket:
        """A connected socket. Raises what picows raises when the server refuses it."""
        headers = {"Sec-WebSocket-Protocol": "speak.v2"} if version == 2 else {}
        _, socket = await ws_connect(lambda: cls(version), url, extra_headers=headers)
        assert isinstance(socket, cls)
        return socket

    async def speak(self, text: str, seed: int, hearing: Hearing) -> None:
        """Returns when the last word about it has come. Protocol 1 knows no seed."""
        self._hearing, self._done = hearing, asyncio.get_running_loop().create_future()
        ask: dict[str, Any] = {"type": "speak", "text": text}
        self._say({**ask, "request_id": str(seed), "seed": seed} if self._version == 2 else ask)
        await self._done

    def cancel(self) -> None:
        """Asks for the end of what is being spoken."""
        self._say({"type": "cancel"})

    def close(self) -> None:
        assert self._transport is not None, "open() returns connected sockets"
        self._transport.send_close()
        self._transport.disconnect()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            if self._hearing is not None:
                self._hearing.heard(frame.get_payload_as_memoryview(), time.monotonic())
        elif frame.msg_type == WSMsgType.TEXT:
            self._told(json.loads(frame.get_payload_as_utf8_text()))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._end("error", "the server has closed the socket")

    def _told(self, message: dict[str, Any]) -> None:
        if message["type"] == "error":
            self._end("refused" if message["code"] in REFUSALS else "error", message["message"])
        elif message["type"] == "audio_end":
            self._end("cancelled" if message.get("cancelled") else "complete", "")

    def _end(self, outcome: Any, reason: str) -> None:
        if self._hearing is not None and self._done is not None and not self._done.done():
            self._hearing.end(outcome, reason)
            self._hearing = None
            self._done.set_result(None)

    def _say(self, message: dict[str, Any]) -> None:
        assert self._transport is not None, "open() returns connected sockets"
        self._transport.send(WSMsgType.TEXT, json.dumps(message).encode())


class WebSocketDoor:
    """Sockets that stay open, as a conversation's does; where all are busy one more is opened meanwhile."""

    def __init__(self, url: str, version: int, opened: int) -> None:
        """opened: how many sockets there are before the first request."""
        self._url, self._version, self._opened = url, version, opened
        self._idle: list[SpeakSocket] = []
        self._all: list[SpeakSocket] = []

    async def __aenter__(self) -> Self:
        self._idle = list(await asyncio.gather(*(self._open() for _ in range(self._opened))))
        return self

    async def __aexit__(self, *exception: object) -> None:
        for socket in self._all:
            socket.close()

    async def speak(self, request: Request, hearing: Hearing) -> None:
        """One utterance on a socket that nobody else uses meanwhile."""
        socket = self._idle.pop() if self._idle else await self._open()
        await socket.speak(request.text, request.seed, hearing)
        self._idle.append(socket)

    async def _open(self) -> SpeakSocket:
        socket = await SpeakSocket.open(self._url, self._version)
        self._all.append(socket)
        return socket
