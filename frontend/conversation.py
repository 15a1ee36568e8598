"""One accepted socket from its first message to its close, in whichever protocol its client chose.

It knows neither the web framework nor the messages of either protocol.
"""

from frontend.connection import Socket
from frontend.metrics import Metrics
from frontend.readiness import Readiness
from frontend.registry import SessionRegistry
from frontend.session import Session
from frontend.session_v2 import SessionV2
from frontend.settings import Settings
from frontend.synthesis import Speech

SUBPROTOCOL_V2 = "speak.v2"


async def converse(
    socket: Socket,
    subprotocol: str | None,
    speech: Speech,
    readiness: Readiness,
    settings: Settings,
    sessions: SessionRegistry,
    session_id: str,
    metrics: Metrics | None = None,
) -> None:
    """Returns when the socket is closed; `subprotocol` is the one that was agreed on."""
    start: str | None = None
    if subprotocol != SUBPROTOCOL_V2:
        first = Session(socket, speech, readiness, settings, session_id, metrics)
        with sessions.tracked(first):
            start = await first.run()
        if start is None:
            return
    session = SessionV2(socket, speech, readiness, settings, session_id, metrics)
    with sessions.tracked(session):
        await session.run(start)
