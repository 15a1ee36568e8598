"""Whoever breaks the rules of HTTP or WebSocket is told which, and leaves neither a task nor a traceback behind."""

import asyncio
import logging
import struct
from collections.abc import Iterator

import pytest

from tests.frontend.conftest import PATIENCE_S, RunningServer
from tests.frontend.test_departures import nothing_left

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HANDSHAKE = (
    b"GET /api/v1/speak HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, CLOSE, PING = 1, 8, 9
SERVERS_PING = b"\x89\x00"


def frame(opcode: int, data: bytes = b"", *, last: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """A client's frame; masked with zeros, which leave the data as they are."""
    head = bytes([last << 7 | reserved << 4 | opcode])
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack("!H", len(data))
    return head + bytes([size[0] | masked << 7]) + size[1:] + (bytes(4) if masked else b"") + data


async def told(server: RunningServer, *sent: bytes) -> bytes:
    """All that is answered until the server ends the connection, however much it still gets; nothing of it is left."""
    host, port = server.address.rsplit(":", 1)
    await server.get("/healthz")  # it has begun whatever it does beside its connections
    async with nothing_left(), asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        answer = b""
        for part in sent:
            writer.write(part)
            await writer.drain()
            if part == HANDSHAKE:
                answer = await reader.readuntil(b"\r\n\r\n")
        answer += await reader.read()
        writer.close()
    return answer


@pytest.fixture(autouse=True)
def no_defect(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([GET + b"X-Long: " + b"a" * 200_000], 431),
        ([GET + b"X-Long: ", *[b"a" * 65_536] * 50], 431),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
        (["GET /ü HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()], 400),
        ([b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n"], 400),
        ([b"GET http://%5B::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n"], 400),
        ([b"GET ?a HTTP/1.1\r\nHost: localhost\r\n\r\n"], 400),
        ([b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"], 400),
        ([POST + b"Content-Length: -1\r\n\r\n"], 400),
        ([POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"], 400),
        ([POST + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n"], 400),
        # As soon as it is too large, which is no end of it.
        ([POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b"x" * 65_536 + b"\r\n"] * 17], 413),
        ([POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b"x" * 65_536 + b"\r\n"] * 400], 413),
        ([POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], 501),
    ],
)
async def test_a_request_that_cannot_be_taken_is_refused_and_its_connection_ends(
    server: RunningServer, sent: list[bytes], status: int
) -> None:
    assert (await told(server, *sent)).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (b"Version: 13", b"Version: 8"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"dGhl", b"\xff\xfe"),
        (b"Connection: Upgrade", b"Connection: Upgrade, \xff"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: \xff\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: \xff\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nabcde"),
        (b"\r\n\r\n", b"\r\n\r\n" + frame(TEXT, b"{}")),
    ],
)
async def test_a_handshake_that_cannot_be_taken_is_refused_and_its_connection_ends(
    server: RunningServer, part: bytes, instead: bytes
) -> None:
    assert (await told(server, HANDSHAKE.replace(part, instead, 1))).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(TEXT, b"{}", masked=False)], 1002),
        ([frame(TEXT, b"{}", reserved=4)], 1002),
        ([frame(3, b"{}")], 1002),
        ([frame(11)], 1002),
        ([frame(0, b"a")], 1002),
        ([frame(TEXT, b"a", last=False), frame(TEXT, b"b")], 1002),
        ([frame(PING, b"a", last=False)], 1002),
        ([frame(PING, b"a" * 126)], 1002),
        ([frame(CLOSE, b"\x03")], 1002),
        ([frame(CLOSE, struct.pack("!H", 0))], 1002),
        ([frame(CLOSE, struct.pack("!H", 1006))], 1002),
        ([frame(CLOSE, b"\x03\xe8\xff")], 1007),
        ([frame(TEXT, b"\xff")], 1007),
        ([frame(TEXT, b"\xc3", last=False), frame(0, b"\x28")], 1007),
        ([frame(TEXT, b"\xed\xa0\x80")], 1007),
        ([frame(TEXT, b"a" * 60_000, last=False), *[frame(0, b"a" * 60_000, last=False)] * 300], 1009),
        ([b"\x82\xff" + struct.pack("!Q", 2**40) + bytes(4), *[b"a" * 65_536] * 300], 1009),
        ([frame(CLOSE, struct.pack("!H", 4999)), frame(TEXT, b"{}") * 50], 4999),
    ],
)
async def test_a_frame_that_breaks_the_rules_closes_with_its_code(
    server: RunningServer, frames: list[bytes], code: int
) -> None:
    answer = await told(server, HANDSHAKE, *frames)
    head, _, closing = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    closing = closing.removeprefix(SERVERS_PING)
    assert (closing[0], closing[1], closing[2:4]) == (0x80 | CLOSE, len(closing) - 2, struct.pack("!H", code))


async def test_a_ping_is_answered_in_the_middle_of_a_message(server: RunningServer) -> None:
    host, port = server.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(PATIENCE_S):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(TEXT, b'{"type":', last=False) + frame(PING, b"p"))
        await reader.readuntil(b"\x8a\x01p")
        writer.write(frame(0, b'"nonsense"}'))
        await reader.readuntil(b"INVALID_MESSAGE")
    writer.close()
