"""How clients of a crowd behave over HTTP: speech read whole or not, mistakes, voices that come and go."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import aiohttp
import soundfile

from benchmarks.soak_recordings import RATE, recording
from benchmarks.soak_tally import Unexpected, Visit

FORMATS = ("mp3", "aac", "flac", "opus", "wav", "pcm")
SPEECH, VOICES = "/v1/audio/speech", "/v1/audio/voices"
_BUSY = {429, 503}
_MISTAKES: tuple[tuple[dict[str, Any] | bytes, int], ...] = (
    (b"{", 400),
    (b"[]", 400),
    ({}, 400),
    ({"input": " "}, 400),
    ({"input": "Hello.", "response_format": "midi"}, 400),
    ({"input": "Hello.", "voice": "nobody"}, 404),
    ({"input": "x" * 30_000}, 400),
    (b" " * 1_100_000, 413),
)


async def reads_a_body(visit: Visit) -> None:
    """Speech to its end."""
    async with _session(visit) as session, session.post(SPEECH, json=_order(visit)) as answer:
        visit.count("utterances")
        if answer.status in _BUSY:
            return visit.count("refused")
        _require(answer.status, 200)
        if not await answer.read():
            raise Unexpected("a body without sound")
        visit.count("complete")


async def drops_a_body(visit: Visit) -> None:
    """Hangs up in the middle of a body, or before it has begun."""
    order = {**_order(visit), "input": visit.text(6)}
    visit.count("utterances")
    visit.count("drops")
    async with _session(visit) as session:
        try:
            async with asyncio.timeout(visit.drawn.uniform(0.0, 1.0)), session.post(SPEECH, json=order) as answer:
                async for _ in answer.content.iter_any():
                    pass
        except TimeoutError:
            return  # the session's end takes the connection with it


async def errs(visit: Visit) -> None:
    """Bodies that are refused, each on a connection of its own: what is too big is not waited for."""
    for _ in range(visit.drawn.randint(1, 4)):
        body, status = visit.drawn.choice(_MISTAKES)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        visit.count("mistakes")
        async with (
            _session(visit) as session,
            session.post(SPEECH, data=data, headers={"Content-Type": "application/json"}) as answer,
        ):
            if answer.status not in _BUSY:
                _require(answer.status, status)
            await answer.read()


async def adds_a_voice(visit: Visit) -> None:
    """Lists voices, adds one of its own, speaks in it, and takes it away."""
    name = f"soak-{visit.drawn.getrandbits(64):016x}"
    async with _session(visit) as session:
        async with session.get(VOICES) as answer:
            _require(answer.status, 200)
            await answer.read()
        form = aiohttp.FormData({"name": name, "consent": "It is a tone."})
        if visit.drawn.random() < 0.5:
            form.add_field("ref_text", "these are the words of the recording")
        form.add_field("audio_sample", _file(visit), filename="tone.wav")
        async with session.post(VOICES, data=form) as answer:
            _require(answer.status, 201)
            await answer.read()
        visit.count("voices added")
        try:
            async with session.post(SPEECH, json={"input": visit.text(), "voice": name}) as answer:
                visit.count("utterances")
                if answer.status not in _BUSY:
                    _require(answer.status, 200)
                await answer.read()
                visit.count("refused" if answer.status in _BUSY else "complete")
        finally:
            async with session.delete(f"{VOICES}/{name}") as answer:
                _require(answer.status, 204)


def _order(visit: Visit) -> dict[str, Any]:
    order: dict[str, Any] = {"input": visit.text(2), "response_format": visit.drawn.choice(FORMATS)}
    if visit.drawn.random() < 0.2:
        order |= {"stream_format": "sse"}
    if visit.drawn.random() < 0.2:
        order |= {"speed": visit.drawn.uniform(0.5, 2.0)}
    return order


def _session(visit: Visit) -> aiohttp.ClientSession:
    """One client's connections, which end with it."""
    headers = {"Authorization": f"Bearer {visit.places.key}"}
    return aiohttp.ClientSession(visit.places.http, headers=headers, timeout=aiohttp.ClientTimeout(total=None))


def _file(visit: Visit) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, recording(visit.drawn, 3.2, 4.5), RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _require(status: int, wanted: int) -> None:
    if status != wanted:
        raise Unexpected(f"status {status} where {wanted} is due")
