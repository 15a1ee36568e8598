"""Whatever clients say in whatever order, the guarantees of protocol v2 hold: random sessions on the whole stack.

Sixteen sockets at a time do what hypothesis makes up for them. `V2Client` fails at the first frame that breaks a rule;
here stands what a whole session must have given, and what must be left when all have gone: nothing.
"""

import asyncio
import json
import urllib.request
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.conftest import Figure
from tests.frontend.v2 import V2Client
from tests.stack.serving import Serve, seconds_until

pytestmark = pytest.mark.stack

SOCKETS, ROUNDS = 16, 63
LIMIT_S = 60
REASONS = {"complete", "cancelled", "preempted", "max_length", "timeout"}
TEXTS = ("Hi.", "A few words more.", "One. Two. Three.")

names = st.sampled_from(["a", "b", "c"])
operations = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("speak"),
            "request_id": names,
            "text": st.sampled_from(TEXTS),
            "final": st.booleans(),
            "mode": st.sampled_from(["queue", "queue", "interrupt", "concurrent"]),
            "voice": st.sampled_from(["ryan", "serena", "nobody"]),
            "max_seconds": st.sampled_from([0.2, 0.4, 1.0]),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("text"), "request_id": names, "text": st.sampled_from(["", " ", "and more. "])}
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["flush", "end", "cancel"]), "request_id": names}),
    st.just({"type": "cancel"}),
    st.just({"type": "sing"}),
    st.fixed_dictionaries({"type": st.just("ping"), "id": st.just("p")}),
)
sessions = st.fixed_dictionaries(
    {
        "tagged": st.booleans(),
        "encoding": st.sampled_from(["pcm_s16le", "mulaw"]),
        "operations": st.lists(operations, max_size=10),
        "leave": st.sampled_from(["stop", "drain", "drain", "vanish"]),
    }
)


async def one_session(url: str, plan: dict[str, Any], endings: Counter[str]) -> None:
    """Does what the plan says, leaves as it says, and judges what was heard."""
    framing = "tagged" if plan["tagged"] else "plain"
    async with connect(url, compression=None, max_size=None, subprotocols=[Subprotocol("speak.v2")]) as connection:
        client = V2Client(connection, plan["tagged"])
        await client.until("ready")
        await client.send(type="start", protocol=2, format={"encoding": plan["encoding"], "framing": framing})
        await client.until("ready")
        asked = 0
        for operation in plan["operations"]:
            if operation["type"] == "speak":
                # An id may be used again when its request has ended; here each speak has one of its own.
                asked += 1
                operation = {**operation, "request_id": f"{operation['request_id']}{asked}"}
            elif "request_id" in operation:
                operation = {**operation, "request_id": f"{operation['request_id']}{max(asked, 1)}"}
            await client.send(**operation)
        if plan["leave"] == "vanish":
            connection.transport.abort()
            return
        if plan["leave"] == "drain":
            # Text that was never ended would be waited for until it times out, which is right and slow.
            for name in "abc":
                for number in range(1, asked + 1):
                    await client.send(type="end", request_id=f"{name}{number}")
        await client.send(type="stop", drain=plan["leave"] == "drain")
        assert await client.closed() == (1000, "")
    spoken = {name: heard for name, heard in client.requests.items() if heard.terminal is not None}
    assert len(spoken) == asked, "each speak has its one terminal"
    for heard in spoken.values():
        assert heard.terminal is not None
        refused = heard.terminal["type"] == "error"
        endings["refused" if refused else heard.terminal["reason"]] += 1
        assert refused or heard.terminal["reason"] in REASONS, heard.terminal


def sockets_open(serve: Serve) -> int:
    """How many sessions the frontend says it has."""
    with urllib.request.urlopen(f"http://127.0.0.1:{serve.ports.frontend}/healthz", timeout=5) as answer:
        count: int = json.load(answer)["sessions"]
    return count


async def nothing_is_left(serve: Serve) -> None:
    await seconds_until(lambda: sockets_open(serve) == 0, LIMIT_S)
    await seconds_until(lambda: serve.metric("tts_active_utterances") == 0, LIMIT_S)
    assert serve.metric("tts_waiting_utterances") == 0


def test_a_thousand_random_sessions_keep_every_guarantee_and_leave_nothing(stack: Serve, figure: Figure) -> None:
    endings: Counter[str] = Counter()
    played = 0

    @settings(max_examples=ROUNDS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(sessions, min_size=SOCKETS, max_size=SOCKETS))
    def play(plans: list[dict[str, Any]]) -> None:
        nonlocal played

        async def together() -> None:
            async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
                for plan in plans:
                    group.create_task(one_session(stack.url, plan, endings))

        asyncio.run(together())
        played += len(plans)

    play()
    asyncio.run(nothing_is_left(stack))
    assert played >= SOCKETS * ROUNDS
    figure(f"stack: {played} random sessions of protocol v2, sixteen at a time, requests by their end", dict(endings))
