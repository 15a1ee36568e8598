"""The order in which a v2 session writes, frame by frame, on a socket in memory that takes them one at a time."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from frontend.framing import read_tagged
from frontend.readiness import Readiness
from frontend.session_v2 import SessionV2
from frontend.settings import Settings
from tests.frontend.fakes import FRAME_BYTES, FakeSpeech, Script, audio_of


class Wire:
    """A socket that sends nothing but what the test takes."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str] = asyncio.Queue()
        self.outgoing: asyncio.Queue[str | bytes] = asyncio.Queue(1)
        self.code: int | None = None

    def say(self, **message: object) -> None:
        self.incoming.put_nowait(json.dumps(message))

    async def take(self) -> dict | bytes:
        frame = await asyncio.wait_for(self.outgoing.get(), 5)
        return frame if isinstance(frame, bytes) else json.loads(frame)

    async def receive(self) -> str | bytes:
        return await self.incoming.get()

    async def send(self, data: str | bytes) -> None:
        await self.outgoing.put(data)

    async def close(self, code: int, reason: str) -> None:
        self.code = code


@pytest.fixture
def speech() -> FakeSpeech:
    return FakeSpeech()


@pytest.fixture
async def wire(speech: FakeSpeech) -> AsyncIterator[Wire]:
    wire = Wire()
    readiness = Readiness(speech, period_s=1, fresh_s=1000)
    session = SessionV2(wire, speech, readiness, Settings(), "s_1")
    running = asyncio.create_task(session.run())
    assert (await wire.take())["type"] == "ready"
    yield wire
    running.cancel()
    await asyncio.wait({running})


async def settle() -> None:
    """Lets every task go on until it waits for something."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_behind_a_cancel_comes_at_most_the_frame_that_was_being_written(wire: Wire, speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=20))
    wire.say(type="speak", request_id="u1", text="Long.")
    assert [(await wire.take())["type"] for _ in range(2)] == ["audio_start", "mark"]
    assert await wire.take() == audio_of("Long.", frames=20)[:FRAME_BYTES]
    await settle()
    wire.say(type="cancel")
    await settle()
    assert speech.active == 0
    # One frame lies in the socket and one is being written to it.
    assert [type(await wire.take()) for _ in range(2)] == [bytes, bytes]
    end = await wire.take()
    assert (end["type"], end["samples"]) == ("audio_end", 3 * 1920)
    await settle()
    assert wire.outgoing.empty()


async def test_answers_overtake_audio(wire: Wire, speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=20))
    wire.say(type="speak", request_id="u1", text="Long.")
    await settle()
    wire.say(type="ping", id="p")
    await settle()
    taken = [await wire.take() for _ in range(4)]
    assert {"type": "pong", "id": "p"} in taken


async def test_the_last_frame_of_a_stream_and_its_audio_end_are_not_torn_apart(wire: Wire, speech: FakeSpeech) -> None:
    wire.say(type="start", protocol=2, format={"framing": "tagged"})
    assert (await wire.take())["type"] == "ready"
    wire.say(type="speak", request_id="u1", text="Hello.")
    frames = [await wire.take() for _ in range(5)]
    await settle()
    wire.say(type="ping")
    await settle()
    last, end, pong = [await wire.take() for _ in range(3)]
    assert isinstance(frames[-1], bytes)
    assert isinstance(last, bytes)
    assert (read_tagged(last).last, read_tagged(last).sample_offset) == (True, 5760)
    assert (end["type"], pong["type"]) == ("audio_end", "pong")


async def test_a_request_that_waits_is_answered_before_the_one_that_is_freed(wire: Wire, speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(hold_after=0))
    wire.say(type="speak", request_id="u1", text="Long.")
    wire.say(type="speak", request_id="u2", text="Two.")
    assert (await wire.take())["type"] == "queued"
    await script.held.wait()
    wire.say(type="cancel")
    ends = [await wire.take() for _ in range(2)]
    assert [end["request_id"] for end in ends] == ["u2", "u1"]
    assert speech.active == 0
