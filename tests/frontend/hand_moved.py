"""One request of protocol v2 alone, on a loop whose clock is moved by hand: by so much that what really passes is
nothing beside it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from frontend.errors import UnknownVoice
from frontend.framing import Plain
from frontend.lanes import Lane, Lanes, Parcel
from frontend.messages_v2 import Speak
from frontend.settings import Settings
from frontend.speaking import Speaking
from frontend.spoken import Spoken
from frontend.synthesis import Chunk, SpeechRequest
from frontend.text_feed import TextFeed
from tests.frontend.fakes import DESCRIPTION, FakeSpeech

# None of what waits for a client is ever taken, so there must be room for all of it.
ROOM = 1_000_000


class HandMovedLoop(asyncio.SelectorEventLoop):
    """Real time, and what was added to it."""

    moved = 0.0

    def time(self) -> float:
        return super().time() + self.moved


def pass_time(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, HandMovedLoop)
    loop.moved += seconds


class SlowModel(FakeSpeech):
    """Makes each of `chunks` in so many seconds; where text follows, the last when all of it has come."""

    def __init__(self, chunks: Sequence[tuple[float, Chunk]]) -> None:
        super().__init__()
        self._chunks = chunks

    async def speak(
        self, request: SpeechRequest, more: AsyncIterator[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        if request.voice is not None:
            raise UnknownVoice("no such voice")
        for seconds, chunk in self._chunks:
            if chunk.info is not None and more is not None:
                async for _ in more:
                    pass
            pass_time(seconds)
            yield chunk


class SlowLane(Lane):
    """One whose listener takes so long before there is room for more."""

    def __init__(self, listener_s: float) -> None:
        super().__init__(Lanes(100), ROOM)
        self._listener_s = listener_s

    async def put_audio(self, seconds: float, parcel: Parcel) -> None:
        pass_time(self._listener_s)
        await super().put_audio(seconds, parcel)


@dataclass
class Played:
    """A request and what it left for its client."""

    request: Spoken
    audio: list[bytes] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


def played(
    speak: Speak,
    feed: TextFeed,
    chunks: Sequence[tuple[float, Chunk]],
    *,
    listener_s: float = 0.0,
    queued_s: float = 0.0,
) -> Played:
    """Speak the text in `feed`, after it has waited for so long for its turn."""

    async def spoken() -> Played:
        lane, loop = SlowLane(listener_s), asyncio.get_running_loop()
        one = Played(Spoken("u1", speak, 1, Plain(), lane, feed, loop.time()))
        pass_time(queued_s)
        hurry = asyncio.Event()
        hurry.set()
        model = SlowModel(chunks)
        await Speaking(one.request, model, DESCRIPTION, Settings(), lambda message: None, hurry).run()
        while lane.filled:
            for piece in lane.take():
                if isinstance(piece, bytes):
                    one.audio.append(piece)
                else:
                    one.events.append(json.loads(piece))
        return one

    with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
        return runner.run(spoken())
