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
from tests.frontend.v2 import Heard, V2Client, v2_client

SESSIONS = 1_000
STEPS = 12
ENDED = ("complete", "cancelled", "preempted", "failed", "timeout", "max_length")
OF_SOCKETS = ("Session", "SocketLife", "Dispatcher", "Serving", "TritonSpeech")
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
        self.tasks = self.tasks_of_sockets()

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def close(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def tasks_of_sockets(self) -> int:
        """How many of the frontend's tasks belong to sockets."""
        return self.run(self._tasks())

    async def _tasks(self) -> int:
        names = [str(task.get_coro().cr_code.co_qualname) for task in asyncio.all_tasks()]
        return sum(name.startswith(OF_SOCKETS) for name in names)


def unless_stopped(step: Any) -> Any:
    """A rule for as long as the client has not asked for the end of its session."""
    return precondition(lambda session: not session.stopped)(step)


class Sessions(RuleBasedStateMachine):
    """One session of one client: every step is something it says or does."""

    requests = Bundle("requests")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.stack = AsyncExitStack()
        self.client: V2Client | None = None
        self.stopped = False
        self.asked: list[str] = []
        self.scripts: list[Script] = []
        self.whole: dict[str, str] = {}
        """Requests whose text came at once and is spoken to its end, unless somebody ends it; by name."""

    @initialize(tagged=st.booleans(), encoding=encodings)
    def connect(self, tagged: bool, encoding: str) -> None:
        self.world.sessions += 1
        self.world.speech.scripts.clear()
        framing = {"encoding": encoding, "framing": "tagged" if tagged else "plain"}
        self.client = self.world.run(self.stack.enter_async_context(v2_client(self.world.server, format=framing)))

    @unless_stopped
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
        self, final: bool, mode: str, frames: int, hold: int | None, error: Any, voice: str | None, strict: bool
    ) -> str:
        failure = error()
        name = f"s{len(self.asked)}"
        text = f"{name} of {self.world.sessions}." if final else "Hi."
        self.scripts.append(self.world.speech.script(text, Script(frames, hold_after=hold, error=failure)))
        self.asked.append(name)
        if final and voice is None and failure is None:
            self.whole[name] = text
        self.send(type="speak", request_id=name, text=text, mode=mode, voice=voice, strict_voice=strict, final=final)
        return name

    @unless_stopped
    @rule(name=requests)
    def speak_again(self, name: str) -> None:
        """The id of a request that has ended is free."""
        heard = self.listener.requests.get(name)
        if heard is not None and heard.terminal is not None:
            self.whole.pop(name, None)
            del self.listener.requests[name]
            self.send(type="speak", request_id=name, text="Again.")

    @unless_stopped
    @rule(name=requests, text=st.sampled_from(["", " ", "ab", " cd."]))
    def append(self, name: str, text: str) -> None:
        self.send(type="text", request_id=name, text=text)

    @unless_stopped
    @rule(name=requests, kind=st.sampled_from(["flush", "end"]))
    def flush_or_end(self, name: str, kind: str) -> None:
        self.send(type=kind, request_id=name)

    @unless_stopped
    @rule(name=requests | st.just("nobody") | st.none(), played=st.sampled_from([None, 0, 100]))
    def cancel(self, name: str | None, played: int | None) -> None:
        named = {} if name is None else {"request_id": name}
        self.send(type="cancel", **named, **({} if played is None else {"played_ms": played}))

    @unless_stopped
    @rule(garbage=st.sampled_from(GARBAGE))
    def say_nonsense(self, garbage: str | bytes) -> None:
        self.world.run(self.listener.connection.send(garbage))
        self.send(type="ping")

    @rule()
    def let_go(self) -> None:
        """The model goes on with all that it was told to hold."""
        for script in self.scripts:
            script.go.set()

    @rule()
    def listen(self) -> None:
        """Takes what has come by now."""
        if not self.stopped:
            self.send(type="ping", id="now")
            self.world.run(self._until_pong())

    @unless_stopped
    @rule(drain=st.booleans())
    def stop(self, drain: bool) -> None:
        self.stopped = True
        self.send(type="stop", drain=drain)

    @invariant()
    def nothing_is_spoken_beyond_the_limit(self) -> None:
        if self.client is not None:
            assert self.world.speech.active <= (2 if self.client.tagged else 1)

    def teardown(self) -> None:
        if self.client is None:
            return
        self.let_go()
        if not self.stopped:
            self.send(type="stop", drain=True)
        assert self.world.run(self.client.closed()) == (1000, "")
        self.world.run(self.stack.aclose())
        self.world.run(self.world.server.all_closed())
        for name in self.asked:
            self.judge(name, self.client.requests[name])
        assert self.world.speech.active == 0
        assert self.world.tasks_of_sockets() == self.world.tasks

    def judge(self, name: str, heard: Heard) -> None:
        """What one request must have given by the end of its session."""
        assert heard.terminal is not None, f"no terminal for {name}"
        self.world.endings[heard.terminal.get("reason", "refused")] += 1
        if heard.terminal["type"] == "error":
            return
        reason = heard.terminal["reason"]
        assert reason in ENDED
        if reason == "failed":
            said = [event["type"] for event in heard.events if isinstance(event, dict)]
            assert said[-2:] == ["error", "audio_end"]
        if name in self.whole and heard.encoding == "pcm_s16le":
            text = self.whole[name]
            sound = audio_of(text, None, self.world.speech.scripts[text].frames)
            assert sound == heard.audio if reason == "complete" else sound.startswith(heard.audio)

    @property
    def listener(self) -> V2Client:
        assert self.client is not None, "a step before the socket was opened"
        return self.client

    def send(self, **message: object) -> None:
        self.world.run(self.listener.send(**message))

    async def _until_pong(self) -> None:
        while (await self.listener.until("pong")).get("id") != "now":
            pass


def test_random_sessions_keep_every_guarantee(figure: Figure) -> None:
    world = World()
    try:
        chosen = settings(
            max_examples=SESSIONS, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(lambda: Sessions(world), settings=chosen)
        assert world.sessions >= SESSIONS
    finally:
        world.close()
    assert {*ENDED, "refused"} - {"max_length"} <= set(world.endings), world.endings
    figure(f"v2: {world.sessions} random sessions, requests by their end", dict(world.endings))
