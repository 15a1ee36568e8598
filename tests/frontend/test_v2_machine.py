"""Whatever a client says in whatever order, the guarantees of protocol v2 hold: random sessions on a live server.

`Listener` checks each frame as it comes; the machine adds what a whole session must have given.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from frontend.errors import InferenceFailed, InvalidRequest, Overloaded
from tests.conftest import Figure
from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script, audio_of
from tests.frontend.v2 import V2Client, v2_client

SESSIONS = 1_000
STEPS = 12
ENDED = ("complete", "cancelled", "preempted", "failed", "timeout", "max_length")
GARBAGE = ("{", "[]", '{"type":"sing"}', '{"type":"text"}', b"\x00", '{"type":"start","protocol":9}')

encodings = st.sampled_from(["pcm_s16le", "mulaw", "wav", "opus"])
# Makers, not errors: one raised again and again would gather the frames of every session in its traceback.
errors = st.sampled_from(
    [
        *([lambda: None] * 3),
        lambda: InferenceFailed("bad"),
        lambda: InvalidRequest("bad"),
        lambda: Overloaded("bad", 100),
    ]
)


class World:
    """One server and one event loop for all sessions: starting them anew would take most of the time."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.speech = FakeSpeech()
        self.speech.text_idle_s = 0.02
        self.sessions = 0
        self.endings: Counter[str] = Counter()
        limits: dict[str, Any] = {
            "max_waiting": 3,
            "max_active": 2,
            "message_burst": 1000,
            "text_idle_s": 0.02,
            "max_sockets_per_address": 1000,
            "max_utterances_per_key": 1000,
            "character_burst": 10**9,
        }
        self.server: RunningServer = self.run(self.stack.enter_async_context(running_server(self.speech, **limits)))
        self.tasks = len(self.run(self._tasks()))

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def close(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    async def _tasks(self) -> list[str]:
        """The frontend's tasks that belong to sockets."""
        names = [str(task.get_coro().cr_code.co_qualname) for task in asyncio.all_tasks()]
        return [name for name in names if name.startswith(("Session", "Dispatcher", "Serving", "TritonSpeech"))]


def machine(world: World) -> type[RuleBasedStateMachine]:
    """The class of sessions in this world."""

    class Sessions(RuleBasedStateMachine):
        requests = Bundle("requests")

        @initialize(tagged=st.booleans(), encoding=encodings)
        def connect(self, tagged: bool, encoding: str) -> None:
            self.tagged = tagged
            self.stopped = False
            self.asked: list[str] = []
            self.scripts: list[Script] = []
            self.whole: dict[str, str] = {}
            world.sessions += 1
            world.speech.scripts.clear()
            self.stack = AsyncExitStack()
            framing = {"encoding": encoding, "framing": "tagged" if tagged else "plain"}
            client = v2_client(world.server, format=framing)
            self.client: V2Client = world.run(self.stack.enter_async_context(client))

        def send(self, **message: object) -> None:
            world.run(self.client.send(**message))

        @precondition(lambda self: not self.stopped)
        @rule(
            target=requests,
            final=st.booleans(),
            mode=st.sampled_from(["queue", "queue", "interrupt", "concurrent"]),
            frames=st.integers(0, 4),
            hold=st.sampled_from([None, None, 0, 1, 2]),
            error=errors,
            voice=st.sampled_from([None, None, "ryan", "nobody"]),
            strict=st.booleans(),
        )
        def speak(
            self, final: bool, mode: str, frames: int, hold: int | None, error: Any, voice: Any, strict: bool
        ) -> Any:
            error = error()
            name = f"s{len(self.asked)}"
            text = f"{name} of {world.sessions}." if final else "Hi."
            self.scripts.append(world.speech.script(text, Script(frames, hold_after=hold, error=error)))
            self.asked.append(name)
            if final and voice is None and error is None:
                self.whole[name] = text
            fields = {"mode": mode, "voice": voice, "strict_voice": strict, "final": final}
            self.send(type="speak", request_id=name, text=text, **fields)
            return name

        @precondition(lambda self: not self.stopped)
        @rule(name=requests)
        def speak_again(self, name: str) -> None:
            """The id of a request that has ended is free."""
            heard = self.client.requests.get(name)
            if heard is not None and heard.terminal is not None:
                self.whole.pop(name, None)
                del self.client.requests[name]
                self.send(type="speak", request_id=name, text="Again.")

        @precondition(lambda self: not self.stopped)
        @rule(name=requests, text=st.sampled_from(["", " ", "ab", " cd."]))
        def append(self, name: str, text: str) -> None:
            self.send(type="text", request_id=name, text=text)

        @precondition(lambda self: not self.stopped)
        @rule(name=requests, kind=st.sampled_from(["flush", "end"]))
        def flush_or_end(self, name: str, kind: str) -> None:
            self.send(type=kind, request_id=name)

        @precondition(lambda self: not self.stopped)
        @rule(name=requests | st.just("nobody") | st.none(), played=st.sampled_from([None, 0, 100]))
        def cancel(self, name: str | None, played: int | None) -> None:
            named = {} if name is None else {"request_id": name}
            self.send(type="cancel", **named, **({} if played is None else {"played_ms": played}))

        @precondition(lambda self: not self.stopped)
        @rule(garbage=st.sampled_from(GARBAGE))
        def say_nonsense(self, garbage: str | bytes) -> None:
            world.run(self.client.connection.send(garbage))
            self.send(type="ping")

        @rule()
        def let_go(self) -> None:
            for script in self.scripts:
                script.go.set()

        @rule()
        def listen(self) -> None:
            """Takes what has come by now."""
            self.send(type="ping", id="now") if not self.stopped else None
            if not self.stopped:
                world.run(self._until_pong())

        async def _until_pong(self) -> None:
            while (await self.client.until("pong")).get("id") != "now":
                pass

        @precondition(lambda self: not self.stopped)
        @rule(drain=st.booleans())
        def stop(self, drain: bool) -> None:
            self.stopped = True
            self.send(type="stop", drain=drain)

        def teardown(self) -> None:
            if not hasattr(self, "client"):
                return
            self.let_go()
            if not self.stopped:
                self.send(type="stop", drain=True)
            assert world.run(self.client.closed()) == (1000, "")
            world.run(self.stack.aclose())
            world.run(world.server.all_closed())
            self.judge()

        def judge(self) -> None:
            for name in self.asked:
                heard = self.client.requests[name]
                assert heard.terminal is not None, f"no terminal for {name}"
                world.endings[heard.terminal.get("reason", "refused")] += 1
                if heard.terminal["type"] == "error":
                    continue
                assert heard.terminal["reason"] in ENDED
                if heard.terminal["reason"] == "failed":
                    assert [event["type"] for event in heard.events if isinstance(event, dict)][-2:] == [
                        "error",
                        "audio_end",
                    ]
                if name in self.whole and heard.terminal["reason"] == "complete" and heard.encoding == "pcm_s16le":
                    text = self.whole[name]
                    assert heard.audio == audio_of(text, None, world.speech.scripts[text].frames)
            assert world.speech.active == 0
            assert len(world.run(world._tasks())) == world.tasks

        @invariant()
        def nothing_is_spoken_beyond_the_limit(self) -> None:
            if hasattr(self, "client"):
                assert world.speech.active <= (2 if self.tagged else 1)

    return Sessions


def test_random_sessions_keep_every_guarantee(figure: Figure) -> None:
    world = World()
    try:
        chosen = settings(
            max_examples=SESSIONS, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(machine(world), settings=chosen)
        assert world.sessions >= SESSIONS
    finally:
        world.close()
    assert {*ENDED, "refused"} - {"max_length"} <= set(world.endings), world.endings
    figure(f"v2: {world.sessions} random sessions, requests by their end", dict(world.endings))
