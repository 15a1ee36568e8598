"""Speech made in memory: an implementation of frontend.synthesis.Speech that a test can hold, fail and count."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field

from frontend.errors import NotReady, UnknownVoice
from frontend.synthesis import FRAME_SAMPLES, Chunk, Description, ModelState, ModelStatus, Segment, SpeechRequest

FRAME_BYTES = FRAME_SAMPLES * 2
DESCRIPTION = Description(
    "qwen3-tts-fake", "instance-1", False, {"type": "custom_voice", "size": "0b6", "default_voice": "makima"}
)


CATALOGUE = Description(
    "qwen3-tts-fake",
    "instance-1",
    False,
    {"type": "custom_voice", "voices": ["makima"], "speakers": ["ryan"], "default_voice": "makima"},
)
"""A description that also says which voices there are."""


def audio_of(text: str, voice: str | None = None, frames: int = 3) -> bytes:
    """The sound the fake makes of a text, different for every text and voice."""
    seed = hashlib.sha256(f"{voice}:{text}".encode()).digest()
    digests = (hashlib.sha256(seed + frame.to_bytes(4)).digest() for frame in range(frames))
    return b"".join(digest * (FRAME_BYTES // len(digest)) for digest in digests)


def live_audio_of(text: str, voice: str | None = None) -> bytes:
    """The sound the fake makes of live text: a frame for each character, however the text is cut."""
    return b"".join(audio_of(f"{place}{character}", voice, 1) for place, character in enumerate(text))


@dataclass
class Script:
    """How one text is spoken: `frames` in all, a pause behind `hold_after` of them, an `error` instead of the end.

    `segments` are told with the frames they begin at, `info` at the end.
    """

    frames: int = 3
    frames_per_chunk: int = 1
    hold_after: int | None = None
    error: Exception | None = None
    segments: dict[int, Segment] = field(default_factory=dict)
    info: dict = field(default_factory=lambda: {"reason": "complete"})
    held: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


class FakeSpeech:
    """Speaks by script; `active` counts the slots in use and `requests` what was asked, in order."""

    def __init__(self, voices: Sequence[str] = ("makima", "ryan"), description: Description = DESCRIPTION) -> None:
        self.voices = voices
        self.scripts: dict[str, Script] = {}
        self.requests: list[SpeechRequest] = []
        self.active = 0
        self.most_active = 0
        self.text_idle_s: float | None = None
        self.frames_made = 0
        self.released = asyncio.Event()
        self.description: Description | Exception = description
        self.status: ModelStatus | NotReady = ModelStatus(ModelState.READY)
        self.descriptions = 0
        self.described = asyncio.Event()

    def script(self, text: str, script: Script) -> Script:
        self.scripts[text] = script
        return script

    async def speak(
        self, request: SpeechRequest, more: AsyncIterator[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        script = self.scripts.get(request.text, Script())
        if request.voice is not None and request.voice not in self.voices:
            raise UnknownVoice(f"no voice {request.voice!r}")
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            if more is not None:
                async for chunk in self._live(request, more, script):
                    yield chunk
                return
            sound = audio_of(request.text, request.voice, script.frames)
            for frame in range(0, script.frames, script.frames_per_chunk):
                if frame == script.hold_after:
                    script.held.set()
                    await script.go.wait()
                self.frames_made += script.frames_per_chunk
                pcm = sound[frame * FRAME_BYTES : (frame + script.frames_per_chunk) * FRAME_BYTES]
                yield Chunk(pcm, None, script.segments.get(frame))
            if script.error is not None:
                raise script.error
            yield Chunk(b"", script.info)
        finally:
            # A terminal that did not wait for the slot would be sent during these turns of the loop.
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
            finally:
                self.active -= 1
                self.released.set()

    async def _live(
        self, request: SpeechRequest, more: AsyncIterator[str], script: Script
    ) -> AsyncGenerator[Chunk, None]:
        place, text = 0, request.text
        while True:
            for character in text:
                if place == script.hold_after:
                    script.held.set()
                    await script.go.wait()
                yield Chunk(audio_of(f"{place}{character}", request.voice, 1))
                place += 1
            try:
                async with asyncio.timeout(self.text_idle_s):
                    text = await anext(more)
            except StopAsyncIteration:
                break
            except TimeoutError:
                yield Chunk(b"", {"reason": "text_timeout"})
                return
        if script.error is not None:
            raise script.error
        yield Chunk(b"", script.info)

    async def describe(self) -> Description:
        self.descriptions += 1
        self.described.set()
        await asyncio.sleep(0)
        if isinstance(self.description, Exception):
            raise self.description
        return self.description

    async def model_status(self) -> ModelStatus:
        if isinstance(self.status, NotReady):
            raise self.status
        return self.status
