"""One utterance as the body of an HTTP response: made, stretched, encoded, and ended in every way a body can end.

It knows no web framework; what iterates it and closes it may be any server's response.
"""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing, closing
from typing import Any

from frontend.encodings import Encoder
from frontend.errors import SpeechError
from frontend.metrics import Tally
from frontend.openai_errors import ApiError
from frontend.registry import SessionRegistry
from frontend.synthesis import BYTES_PER_SAMPLE, SAMPLE_RATE, Chunk
from frontend.time_stretch import TimeStretch

log = logging.getLogger(__name__)


class EncodedSpeech:
    """Chunks on their way into bytes of one format, by themselves or as server-sent events."""

    def __init__(
        self,
        chunks: AsyncGenerator[Chunk, None],
        encoder: Encoder,
        tally: Tally,
        *,
        speed: float = 1.0,
        max_audio_s: float,
    ) -> None:
        self._chunks = chunks
        self._encoder = encoder
        self._tally = tally
        self._stretch = None if speed == 1.0 else TimeStretch(speed)
        self._room = int(max_audio_s * SAMPLE_RATE) * BYTES_PER_SAMPLE
        self._reason = "complete"
        self.frames = 0

    async def portions(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they can be sent. Raises SpeechError; closing it frees the model's slot before it returns."""
        try:
            async with aclosing(self._chunks), aclosing(self._encoded()) as encoded:
                try:
                    async for portion in encoded:
                        self._tally.heard()
                        yield portion
                except (GeneratorExit, asyncio.CancelledError):
                    self._tally.cancelling()
                    self._reason = "cancelled"
                    raise
        except SpeechError as failure:
            self._tally.failed(failure)
            self._reason = "failed" if self._tally.first_audio_s is not None else "refused"
            raise
        finally:
            self._tally.ended(self._reason)

    async def events(self, input_tokens: int) -> AsyncGenerator[bytes, None]:
        """The same bytes as server-sent events; a failure after the first audio is an event as well."""
        begun = False
        try:
            async with aclosing(self.portions()) as portions:
                async for portion in portions:
                    begun = True
                    yield _event("speech.audio.delta", audio=base64.b64encode(portion).decode())
        except SpeechError as failure:
            if not begun:
                raise
            yield _event("speech.audio.error", **ApiError.of(failure).body)
            return
        usage = {"input_tokens": input_tokens, "output_tokens": self.frames, "total_tokens": input_tokens + self.frames}
        yield _event("speech.audio.done", usage=usage)

    async def _encoded(self) -> AsyncGenerator[bytes, None]:
        with closing(self._encoder):
            header = self._encoder.start()
            async with aclosing(self._sound()) as sound:
                async for pcm in sound:
                    for portion in self._encoder.push(pcm):
                        yield header + portion
                        header = b""
            rest = header + b"".join(self._encoder.finish())
            if rest:
                yield rest

    async def _sound(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks:
            if chunk.info is not None:
                self._reason = str(chunk.info.get("reason", "complete"))
                self.frames = int(chunk.info.get("frames", 0))
            pcm = chunk.pcm[: self._room]
            self._room -= len(pcm)
            if pcm:
                self._tally.made(len(pcm) / BYTES_PER_SAMPLE / SAMPLE_RATE)
                yield pcm if self._stretch is None else self._stretch.push(pcm)
            if len(pcm) < len(chunk.pcm):
                self._reason = "max_length"
                break
        if self._stretch is not None:
            yield self._stretch.finish()


def _event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


class HttpUtterance:
    """The body of one response, from the wait for its first bytes on. Implements frontend.registry.Session.

    Made and used by the task that answers the request; when that task ends, so does the utterance.
    """

    def __init__(self, portions: AsyncGenerator[bytes, None], tally: Tally, facts: Mapping[str, Any]) -> None:
        """facts: what the log says about it besides the course it took."""
        self._portions = portions
        self._tally = tally
        self._facts = facts
        self._first: bytes | None = None
        self._handed = 0
        self._handed_at = 0.0
        self._tracking = ExitStack()
        self._closed = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()

    async def begin(self, sessions: SessionRegistry) -> None:
        """Returns when the first bytes are there. Raises SpeechError, after which it is closed."""
        self._tracking.enter_context(sessions.tracked(self))
        # A client that leaves before the body is begun leaves nobody who would close it.
        assert self._task is not None, "a request is answered by a task"
        self._task.add_done_callback(self._abandoned)
        try:
            with self._tally.span.current():
                self._first = await anext(self._portions, b"")
        except BaseException:
            await self.aclose()
            raise

    def __aiter__(self) -> "HttpUtterance":
        return self

    async def __anext__(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if self._handed:
            self._tally.sent(self._handed, now - self._handed_at)
            self._handed = 0
        portion, self._first = self._first, None
        if portion is None:
            portion = await self._next()
        self._handed, self._handed_at = len(portion), asyncio.get_running_loop().time()
        return portion

    async def _next(self) -> bytes:
        try:
            return await anext(self._portions)
        except SpeechError as failure:
            # A body can only be broken off by ending the task that sends it; the server would log other exceptions
            # as its own, with everything on the way.
            log.warning("http utterance broke off: %s", failure)
            raise asyncio.CancelledError("the utterance broke off") from None

    async def aclose(self) -> None:
        """Ends it; the model's slot is free when this returns."""
        if self._closed.is_set():
            return
        try:
            await self._portions.aclose()
        finally:
            self._tracking.close()
            self._closed.set()
            self._task = None  # a cancelled task keeps its frames and they keep this: only a search would find them
            log.info("http utterance %s", self._summary())

    def drain(self) -> None:
        """It goes on: there is only this one utterance, and it was accepted."""

    async def idle(self) -> None:
        """Returns when it is over."""
        await self._closed.wait()

    def end(self, code: int, reason: str) -> None:
        """Breaks it off."""
        if self._task is not None:
            self._task.cancel(reason)

    def _summary(self) -> str:
        first_s = self._tally.first_audio_s
        facts = {
            **self._facts,
            "reason": self._tally.reason,
            "bytes": self._tally.sent_bytes,
            "ttfa_ms": None if first_s is None else round(first_s * 1000),
            "total_ms": round(self._tally.seconds * 1000),
            "trace": self._tally.span.trace_id,
        }
        return " ".join(f"{key}={json.dumps(value)}" for key, value in facts.items())

    def _abandoned(self, task: asyncio.Task[Any]) -> None:
        if not self._closed.is_set():
            self._closing = task.get_loop().create_task(self.aclose(), name="abandoned utterance")
