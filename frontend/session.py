"""One socket from accept to close, protocol v1: reads always, speaks in order, writes from one place.

It knows neither the web framework (the socket is passed in) nor what makes the speech.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing
from typing import NoReturn

from frontend import messages
from frontend.connection import (
    ABUSE,
    MAX_PIECE_BYTES,
    MAX_UNREAD_MESSAGES,
    SLOW,
    STOPPED,
    EndSession,
    Socket,
    close,
    send_in_time,
)
from frontend.errors import InferenceFailed, NotReady, SpeechError, UnknownVoice
from frontend.messages_v2 import asks_for_v2
from frontend.metrics import Metrics
from frontend.outbox import Outbox, OutboxFull
from frontend.readiness import Readiness
from frontend.settings import Settings
from frontend.socket_life import SocketLife, until_the_end
from frontend.synthesis import BYTES_PER_SAMPLE, SAMPLE_RATE, Speech, SpeechRequest
from frontend.utterance import Utterance

log = logging.getLogger(__name__)


class SwitchProtocol(EndSession):
    """The client opened with a `start` that asks for protocol 2; the socket goes on with that."""

    def __init__(self, start: str) -> None:
        super().__init__(STOPPED)
        self.start = start


class Session:
    """Serves one socket. `run` returns when the socket was closed and no task is left."""

    def __init__(
        self,
        socket: Socket,
        speech: Speech,
        readiness: Readiness,
        settings: Settings,
        session_id: str,
        metrics: Metrics | None = None,
    ) -> None:
        self._socket = socket
        self._speech = speech
        self._readiness = readiness
        self._settings = settings
        self._session_id = session_id
        self._metrics = metrics
        self._life = SocketLife(settings)
        max_audio = int(settings.max_buffered_audio_s * SAMPLE_RATE) * BYTES_PER_SAMPLE
        self._outbox = Outbox(max_audio, MAX_UNREAD_MESSAGES)
        # Bounded by submit() refusing, and by cancelled utterances leaving at once.
        self._accepted: asyncio.Queue[Utterance] = asyncio.Queue()
        self._live: list[Utterance] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._opened = False
        self.draining = False

    async def run(self) -> str | None:
        """Serves until the client stops, a limit is met, or `end` is called.

        Gives the first message back, and leaves the socket open, when that asks for protocol 2.
        Cancelling it (the client left) cancels everything that is being spoken.
        """
        ending: EndSession | None = None
        try:
            ending = await until_the_end(self._session_id, self._begin)
        finally:
            for utterance in self._live:
                self._log(utterance, "lost" if ending is None else f"closed_{ending.code}")
            self._idle.set()
            self._outbox.close()
        if isinstance(ending, SwitchProtocol):
            return ending.start
        await close(self._socket, ending)
        return None

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        expire = self._life.expire(lambda: self._live, lambda _: self._cancel_all(), self.idle)
        for part in (self._read(), self._write(), self._speak_in_order(group), expire):
            group.create_task(part)

    async def idle(self) -> None:
        """Returns when nothing is being spoken or waits and all of it was written, or when `run` has ended."""
        await self._idle.wait()
        await self._outbox.emptied()

    def drain(self) -> None:
        """From now on refuses new utterances."""
        self.draining = True

    def end(self, code: int, reason: str) -> None:
        """Asks for the end: what still runs is cancelled, told so, and the socket closed."""
        self._life.end(code, reason)

    async def _read(self) -> NoReturn:
        while True:
            raw = await self._socket.receive()
            now = self._life.touch()
            if (flooded := self._life.flooded(now)) is not None:
                raise EndSession(ABUSE, flooded)
            if isinstance(raw, str):
                if not self._opened and asks_for_v2(raw):
                    raise SwitchProtocol(raw)
                self._receive(raw, now)
            self._opened = True

    def _receive(self, raw: str, now: float) -> None:
        try:
            message = messages.parse(raw, self._settings.max_text_chars)
        except messages.InvalidMessage as invalid:
            if (refused := self._life.refused(now)) is not None:
                self._refuse(messages.TTS_NOT_READY, refused, invalid)
            else:
                self._refuse(messages.INVALID_MESSAGE, str(invalid), invalid)
            return
        if isinstance(message, messages.Stop):
            raise EndSession(STOPPED)
        if isinstance(message, messages.Cancel):
            self._cancel_all()
        elif (refused := self._life.refused(now)) is not None:
            self._refuse(messages.TTS_NOT_READY, refused, message)
        else:
            self._submit(message, now)

    def _refuse(self, code: str, text: str, culprit: messages.Speak | messages.InvalidMessage) -> None:
        if self._metrics is not None:
            self._metrics.refused("websocket", code)
        self._put(messages.error(code, text, culprit.request_id))

    def _put(self, text: str) -> None:
        try:
            self._outbox.put(text)
        except OutboxFull as full:
            raise EndSession(SLOW, f"slow consumer: {full}") from None

    def _submit(self, speak: messages.Speak, now: float) -> None:
        waiting = sum(not utterance.cancelled for utterance in self._live) - 1
        if self.draining:
            self._refuse(messages.TTS_NOT_READY, "the server is shutting down", speak)
        elif waiting >= self._settings.max_waiting:
            text = f"{waiting} utterances wait on this socket, the limit is {self._settings.max_waiting}"
            self._refuse(messages.TTS_NOT_READY, text, speak)
        else:
            tally = None if self._metrics is None else self._metrics.utterance("websocket")
            utterance = Utterance(speak, now, tally=tally)
            self._live.append(utterance)
            self._idle.clear()
            self._accepted.put_nowait(utterance)

    def _cancel_all(self) -> None:
        for utterance in self._live:
            utterance.cancel()
        if any(utterance.cancelled for utterance in self._live):
            self._outbox.drop_audio()

    async def _speak_in_order(self, group: asyncio.TaskGroup) -> NoReturn:
        while True:
            utterance = await self._accepted.get()
            if not utterance.cancelled:
                with utterance.traced():
                    utterance.task = group.create_task(self._speak(utterance))
                await asyncio.wait({utterance.task})
                utterance.task = None  # cancelled, it holds its frames, which hold the utterance: garbage in a circle
            # The task is over, so its slot is free, before the client hears of it.
            if utterance.cancelled:
                utterance.reason = "cancelled"
                self._put(messages.audio_end(True, utterance.speak.request_id))
            self._retire(utterance)

    def _retire(self, utterance: Utterance) -> None:
        self._live.remove(utterance)
        self._life.touch()
        self._log(utterance, utterance.reason)
        if not self._live:
            self._idle.set()

    async def _speak(self, utterance: Utterance) -> None:
        request_id = utterance.speak.request_id
        try:
            await self._readiness.require()
            await self._stream(utterance)
            terminal = messages.audio_end(False, request_id)
        except SpeechError as failure:
            if isinstance(failure, InferenceFailed | NotReady):
                self._readiness.doubt()
            utterance.failed(failure)
            utterance.reason = f"failed:{type(failure).__name__}"
            terminal = messages.error(messages.code_of(failure), str(failure), request_id)
        except Exception as defect:  # the root of this task: it ends the utterance, not the socket
            utterance.failed(defect)
            log.exception("utterance failed session=%s", self._session_id)
            utterance.reason = "failed:defect"
            text = "the server failed while it spoke this text"
            terminal = messages.error(messages.TTS_INFERENCE_FAILED, text, request_id)
        utterance.terminal_taken = self._outbox.put_last(terminal)
        await utterance.terminal_taken.wait()

    async def _stream(self, utterance: Utterance) -> None:
        speak = utterance.speak
        try:
            await self._stream_request(utterance, SpeechRequest(speak.text, speak.voice, speak.language))
        except UnknownVoice:
            if speak.voice is None:
                raise
            log.warning("unknown voice session=%s voice=%.64r, using the default", self._session_id, speak.voice)
            await self._stream_request(utterance, SpeechRequest(speak.text, None, speak.language))

    async def _stream_request(self, utterance: Utterance, request: SpeechRequest) -> None:
        left = int(self._settings.max_audio_s * SAMPLE_RATE) * BYTES_PER_SAMPLE
        async with aclosing(self._speech.speak(request)) as chunks:
            async for chunk in chunks:
                for piece in _pieces(chunk.pcm[:left]):
                    utterance.heard(len(piece))
                    await self._outbox.put_audio(piece, utterance.sent)
                left -= len(chunk.pcm)
                if chunk.info is not None and "reason" in chunk.info:
                    utterance.reason = str(chunk.info.get("reason", "complete"))
                if left <= 0:
                    utterance.reason = "max_length"
                    return

    async def _write(self) -> NoReturn:
        while True:
            await send_in_time(self._socket, await self._outbox.take(), self._settings.send_timeout_s)

    def _log(self, utterance: Utterance, reason: str) -> None:
        utterance.ended(reason)
        log.info("utterance session=%s %s", self._session_id, utterance.summary(reason, self._life.now()))


def _pieces(pcm: bytes) -> Iterator[bytes]:
    return (pcm[start : start + MAX_PIECE_BYTES] for start in range(0, len(pcm), MAX_PIECE_BYTES))
