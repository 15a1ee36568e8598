"""A client that offers to compress messages is served without, since sound would cost much and shrink little."""

import json

from websockets.asyncio.client import connect

from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import audio_of


async def test_an_offer_to_compress_is_left_unanswered(server: RunningServer) -> None:
    async with connect(f"ws://{server.address}/api/v1/speak", compression="deflate") as connection:
        assert "permessage-deflate" in connection.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in connection.response.headers
        await connection.send('{"type":"speak","text":"Hello."}')
        heard = b""
        while isinstance(frame := await connection.recv(), bytes):
            heard += frame
        assert heard == audio_of("Hello.")
        assert json.loads(frame)["type"] == "audio_end"
