"""One text through a server that speaks protocol v1 alone. Knows only the wire."""

import json
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from commands import CommandFailed
from commands.arrival import Arrival
from commands.interrupts import cancelled_by_interrupt


async def speak_v1(url: str, request: dict[str, Any], arrival: Arrival) -> None:
    """Returns when the sound has arrived or was cancelled. Raises CommandFailed."""
    try:
        async with connect(url, compression=None, max_size=None) as connection:
            await connection.send(json.dumps(request))
            with cancelled_by_interrupt(lambda: connection.send('{"type":"cancel"}')):
                async for message in connection:
                    if isinstance(message, str):
                        arrival.cancelled = _ending(json.loads(message))
                        return
                    arrival.add(message)
    except ConnectionClosed as closed:
        raise CommandFailed(f"the connection was lost: {closed}") from None
    except (OSError, InvalidHandshake) as error:
        raise CommandFailed(f"cannot reach {url}: {error}") from None
    raise CommandFailed("the server closed the connection before the end of the speech")


def _ending(message: dict[str, Any]) -> bool:
    if message["type"] == "error":
        raise CommandFailed(f"{message['code']}: {' '.join(message['message'].split())}")
    return bool(message["cancelled"])
