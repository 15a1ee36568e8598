"""One text through every door of a frontend: how it sounded, and how long its listener waited for the first of it."""

import asyncio
import json
import time
import urllib.request
from dataclasses import dataclass

import numpy as np
from websockets.asyncio.client import connect

from frontend.client import SpeechClient
from frontend.heard import Audio, Utterance
from tests.stack.speaking import COMPLETE, Pcm, speak

TEXT = "Somebody answers."


@dataclass(frozen=True)
class Answer:
    pcm: Pcm
    first_s: float


async def through_every_door(address: str) -> dict[str, Answer]:
    """What each door of a frontend at `host:port` makes of TEXT, asked for at once."""
    url = f"ws://{address}/api/v1/speak"
    doors = {"v1": _v1(url), "v2": _v2(url), "live text": _live(url), "http": asyncio.to_thread(_http, address)}
    return dict(zip(doors, await asyncio.gather(*doors.values()), strict=True))


async def _v1(url: str) -> Answer:
    async with connect(url) as socket:
        heard = await speak(socket, TEXT)
    assert heard.terminal == COMPLETE, heard.terminal
    return Answer(heard.samples, heard.seconds_to_first)


async def _v2(url: str) -> Answer:
    async with SpeechClient(url) as client:
        asked = time.monotonic()
        return await _listened(await client.speak(TEXT), asked)


async def _live(url: str) -> Answer:
    async with SpeechClient(url) as client:
        asked = time.monotonic()
        utterance = await client.speak("", final=False)
        for word in TEXT.split(" "):
            await client.send({"type": "text", "request_id": utterance.request_id, "text": f"{word} "})
        await utterance.end()
        return await _listened(utterance, asked)


async def _listened(utterance: Utterance, asked: float) -> Answer:
    sound, first = [], None
    async for arrived in utterance:
        if isinstance(arrived, Audio):
            first = first or time.monotonic()
            sound.append(arrived.payload)
    assert first is not None, "no audio came"
    return Answer(_pcm(b"".join(sound)), first - asked)


def _http(address: str) -> Answer:
    body = json.dumps({"model": "qwen3-tts", "input": TEXT, "response_format": "pcm"}).encode()
    request = urllib.request.Request(f"http://{address}/v1/audio/speech", body, {"Content-Type": "application/json"})
    asked = time.monotonic()
    with urllib.request.urlopen(request, timeout=30) as answer:
        sound = answer.read(2)
        first = time.monotonic()
        return Answer(_pcm(sound + answer.read()), first - asked)


def _pcm(sound: bytes) -> Pcm:
    return np.frombuffer(sound, dtype="<i2").astype(np.int16)
