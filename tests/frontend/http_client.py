"""An HTTP client for tests that reads what comes as it comes: heads, chunks, events, and bodies that break off."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.frontend.conftest import PATIENCE_S, RunningServer


@dataclass
class Answer:
    """An HTTP response; `body` is without the chunks' framing, and `whole` tells whether it came to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = True

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [event.split("\n") for event in self.body.decode().split("\n\n") if event]
        assert all(named == f"event: {json.loads(data[6:])['type']}" for named, data in lines)
        return [json.loads(data.removeprefix("data: ")) for _, data in lines]


class Download:
    """A response that is being read. Closing it closes the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def head(self) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.partition(": ") for line in lines[1:] if line]
        return Answer(int(lines[0].split()[1]), {name.lower(): value for name, _, value in pairs})

    async def part(self) -> bytes | None:
        """The next chunk, empty at the end; None when the connection ends before."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                return (await self._reader.readexactly(size + 2))[:-2]
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def rest(self, answer: Answer) -> Answer:
        if "content-length" in answer.headers:
            answer.body = await self._reader.readexactly(int(answer.headers["content-length"]))
            return answer
        while part := await self.part():
            answer.body += part
        answer.whole = part is not None
        return answer

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def asking(
    server: RunningServer, body: bytes, path: str = "/v1/audio/speech", method: str = "POST"
) -> AsyncIterator[Download]:
    host, port = server.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield Download(reader, writer)
    finally:
        writer.close()


async def ask(server: RunningServer, **fields: object) -> Answer:
    return await ask_raw(server, json.dumps({"model": "qwen3-tts", **fields}).encode())


async def ask_raw(server: RunningServer, body: bytes, path: str = "/v1/audio/speech", method: str = "POST") -> Answer:
    async with asking(server, body, path, method) as download:
        return await download.rest(await download.head())
