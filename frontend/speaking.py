"""Speaks one request of protocol v2: text in generations, sound through encoder and pace into its lane, with marks.

It knows neither the socket nor the other requests, nor what becomes of a failure.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import aclosing, closing
from typing import Any

from frontend import events_v2
from frontend.connection import MAX_PIECE_BYTES
from frontend.encodings import make_encoder
from frontend.errors import UnknownVoice
from frontend.pace import Pace
from frontend.settings import Settings
from frontend.spoken import Mark, Spoken
from frontend.synthesis import (
    BYTES_PER_SAMPLE,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Chunk,
    Description,
    Segment,
    Speech,
    SpeechRequest,
)
from frontend.text_feed import FlushPoint, Rest

log = logging.getLogger(__name__)

PROGRESS_S = 1.0
# What a generation may say of its end, in the words of the wire.
REASONS = {"text_timeout": "timeout", "max_length": "max_length"}


class Speaking:
    """The making of one request; `run` is cancelled to end it, which frees the model's slot before it returns."""

    def __init__(
        self,
        spoken: Spoken,
        speech: Speech,
        description: Description,
        settings: Settings,
        put: Callable[[str], None],
        hurry: asyncio.Event,
    ) -> None:
        self._spoken = spoken
        self._wishes = spoken.speak.wishes
        self._speech = speech
        self._description = description
        self._settings = settings
        self._put = put
        self._loop = asyncio.get_running_loop()
        self._encoder = make_encoder(self._wishes.format.encoding, self._wishes.format.sample_rate)
        self._pace = Pace(settings.max_ahead_s, hurry)
        self._voice = self._wishes.voice
        seconds = min(spoken.speak.max_seconds or math.inf, settings.max_audio_s)
        self._samples_left = int(seconds * SAMPLE_RATE)
        self._given = 0
        self._begun = False
        self._shown_at = self._loop.time()
        self._ignored: set[str] = set()

    async def run(self) -> None:
        """Speaks the whole text, as it comes. Raises SpeechError."""
        self._spoken.served_at = self._loop.time()
        with closing(self._encoder):
            if self._spoken.speak.final:
                await self._generate(self._spoken.feed.text, None, 0)
            else:
                await self._live()
            await self._send(self._encoder.finish())

    async def _live(self) -> None:
        """One generation for the text up to each flush."""
        feed = self._spoken.feed
        while self._spoken.reason == "complete":
            try:
                async with asyncio.timeout(self._settings.text_idle_s):
                    opening = await feed.opening()
            except TimeoutError:
                self._spoken.reason = "timeout"
                return
            if opening is None:
                return
            if isinstance(opening, FlushPoint):
                self._flushed(opening)
                continue
            rest = await self._generate(opening, feed.rest(), feed.taken - len(opening))
            if rest is None or rest.flush is None:
                return
            self._flushed(rest.flush)

    async def _generate(self, text: str, rest: Rest | None, char_base: int) -> Rest | None:
        """The rest that was spoken: an unknown voice makes it begin anew, with the default voice."""
        try:
            await self._stream(text, rest, char_base)
        except UnknownVoice as unknown:
            if self._voice is None or self._wishes.strict_voice:
                raise
            log.warning("unknown voice voice=%.64r, using the default", self._voice)
            self._voice = None
            self._warn(events_v2.VOICE_NOT_FOUND, f"{unknown}; the default voice speaks instead")
            if rest is not None:
                text, rest = text + rest.said, rest.again()
            await self._stream(text, rest, char_base)
        return rest

    async def _stream(self, text: str, rest: Rest | None, char_base: int) -> None:
        sample_base = self._spoken.model_samples
        silent = True
        request = self._request(text)
        asked_at = self._loop.time()
        speaking = self._speech.speak(request) if rest is None else self._speech.speak(request, rest)
        async with aclosing(speaking) as chunks:
            async for chunk in chunks:
                self._spoken.generation_s += self._loop.time() - asked_at
                segment = chunk.segment
                if segment is None and silent and chunk.pcm:
                    segment = Segment(0, None, 0)
                if segment is not None:
                    self._begin()
                    self._mark(segment, char_base, sample_base, text if rest is None else text + rest.said)
                    silent = False
                if not await self._hear(chunk):
                    self._spoken.reason = "max_length"
                    return
                if chunk.info is not None and rest is None:
                    self._spoken.generation_s = _made_in_s(chunk.info, self._spoken.generation_s)
                asked_at = self._loop.time()

    async def _hear(self, chunk: Chunk) -> bool:
        """False when it had to be cut."""
        pcm = chunk.pcm[: self._samples_left * BYTES_PER_SAMPLE]
        for start in range(0, len(pcm), MAX_PIECE_BYTES):
            await self._send(self._encoder.push(pcm[start : start + MAX_PIECE_BYTES]))
        self._samples_left -= len(pcm) // BYTES_PER_SAMPLE
        self._spoken.model_samples += len(pcm) // BYTES_PER_SAMPLE
        if chunk.info is not None:
            self._learn(chunk.info)
        self._show()
        return len(pcm) == len(chunk.pcm)

    async def _send(self, packets: list[bytes]) -> None:
        """Packets of equal duration."""
        if not packets:
            return
        samples = (self._encoder.samples - self._given) // len(packets)
        self._given = self._encoder.samples
        seconds = samples / self._encoder.sample_rate
        for packet in packets:
            await self._pace.wait(seconds)
            await self._spoken.lane.put_audio(seconds, self._spoken.audio(packet, samples))

    def _request(self, text: str) -> SpeechRequest:
        speak = self._spoken.speak
        limits = self._description.details.get("limits", {})
        frames = None
        if speak.max_seconds is not None:
            longest = math.ceil(min(speak.max_seconds, self._settings.max_audio_s) * SAMPLE_RATE / FRAME_SAMPLES)
            frames = min(longest, int(limits.get("max_total_frames", limits.get("max_frames", longest))))
        return SpeechRequest(
            text,
            self._voice,
            self._wishes.language,
            speak.instructions,
            temperature=speak.temperature,
            top_k=speak.top_k,
            top_p=speak.top_p,
            seed=speak.seed,
            max_frames=frames,
        )

    def _begin(self) -> None:
        """Sends what comes before the first sound."""
        spoken = self._spoken
        if self._begun:
            return
        self._begun = True
        details = self._description.details
        voice = self._voice or details.get("default_voice")
        cloned = details.get("type") == "base" and voice is not None and voice in details.get("voices", ())
        waited = (spoken.served_at or spoken.asked_at) - spoken.asked_at
        message = events_v2.audio_start(
            spoken.request_id,
            spoken.stream_id,
            voice,
            cloned,
            self._encoder.sample_rate,
            self._wishes.format.encoding,
            round(waited * 1000),
        )
        spoken.announced = True
        spoken.lane.put(spoken.opening(message))
        header = self._encoder.start()
        if header:
            spoken.lane.put(spoken.audio(header, 0))

    def _mark(self, segment: Segment, char_base: int, sample_base: int, text: str) -> None:
        """`text` is that of the generation, as far as it is known."""
        end = len(text) if segment.text_end is None else segment.text_end
        words = text[segment.text_start : end]
        start = char_base + segment.text_start + len(words) - len(words.lstrip())
        words = words.strip()
        at = (sample_base + segment.sample_offset) * self._encoder.sample_rate / SAMPLE_RATE
        marks = self._spoken.marks
        marks.append(Mark(start, start + len(words), round(at)))
        if self._wishes.timestamps != "none":
            ms = round((sample_base + segment.sample_offset) * 1000 / SAMPLE_RATE)
            message = events_v2.mark(self._spoken.request_id, len(marks) - 1, words, start, round(at), ms)
            self._spoken.lane.put(lambda: [message])

    def _flushed(self, flush: FlushPoint) -> None:
        spoken = self._spoken
        spoken.lane.put(lambda: [events_v2.flushed(spoken.request_id, flush.id, spoken.samples)])

    def _learn(self, info: Mapping[str, Any]) -> None:
        self._spoken.reason = REASONS.get(str(info.get("reason")), "complete")
        new = sorted(set(info.get("ignored", ())) - self._ignored)
        if new:
            self._ignored.update(new)
            names = ", ".join("instructions" if name == "instruct" else name for name in new)
            self._warn(events_v2.INPUT_IGNORED, f"the loaded model has no use for {names}")

    def _show(self) -> None:
        spoken, now = self._spoken, self._loop.time()
        if not self._wishes.progress or now - self._shown_at < PROGRESS_S or not spoken.marks:
            return
        self._shown_at = now
        audio_s = spoken.model_samples / SAMPLE_RATE
        rtf = spoken.generation_s / audio_s if audio_s else 0.0
        done = spoken.marks[-1].char_start
        spoken.lane.put(lambda: [events_v2.progress(spoken.request_id, round(audio_s * 1000), done, rtf)])

    def _warn(self, code: str, text: str) -> None:
        self._put(events_v2.warning(code, text, self._spoken.request_id))


def _made_in_s(info: Mapping[str, Any], waited_s: float) -> float:
    """How long the model worked, in its own words if it has any: it may be ahead of who waits for it."""
    timings = info.get("timings", {})
    return float(timings.get("total_s", waited_s)) - float(timings.get("queue_s", 0.0))
