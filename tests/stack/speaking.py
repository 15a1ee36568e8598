"""Clients of the whole stack: one on the v1 WebSocket, one on Triton's gRPC. They keep what came and when."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc.aio as grpcclient
from websockets.asyncio.client import ClientConnection

SAMPLES_PER_FRAME = 1920
COMPLETE = '{"type":"audio_end","sample_rate":24000,"format":"pcm_s16le","channels":1,"cancelled":false}'
CANCELLED = COMPLETE.replace("false", "true")
TYPES = {
    "text": "BYTES",
    "voice": "BYTES",
    "language": "BYTES",
    "temperature": "FP32",
    "seed": "UINT64",
    "acknowledge": "BOOL",
    "cancel": "BOOL",
    "text_placement": "BYTES",
    "reference_audio": "FP32",
    "reference_sample_rate": "INT32",
    "reference_text": "BYTES",
    "utterance": "BYTES",
    "text_complete": "BOOL",
}

Pcm = npt.NDArray[np.int16]


@dataclass
class Heard:
    """One utterance as a client got it; times are of time.monotonic()."""

    asked: float
    pcm: list[bytes] = field(default_factory=list)
    first: float | None = None
    ended: float = 0.0
    terminal: str = ""

    @property
    def samples(self) -> Pcm:
        return np.frombuffer(b"".join(self.pcm), dtype="<i2").astype(np.int16)

    @property
    def seconds_to_first(self) -> float:
        assert self.first is not None, f"no audio came, only {self.terminal}"
        return self.first - self.asked


async def speak(socket: ClientConnection, text: str, voice: str | None = None) -> Heard:
    """Asks for a text on a v1 socket and listens to its end."""
    heard = Heard(await ask(socket, text, voice))
    await listen(socket, heard)
    return heard


async def ask(socket: ClientConnection, text: str, voice: str | None = None) -> float:
    """Sends a speak; the time when it was sent."""
    asked = time.monotonic()
    await socket.send(json.dumps({"type": "speak", "text": text, "voice": voice}))
    return asked


async def listen(socket: ClientConnection, heard: Heard, messages: int | None = None) -> None:
    """Receives audio until the terminal message, or only so many binary messages."""
    while messages is None or len(heard.pcm) < messages:
        message = await socket.recv()
        if isinstance(message, str):
            heard.terminal, heard.ended = message, time.monotonic()
            return
        heard.first = heard.first or time.monotonic()
        heard.pcm.append(message)


async def infer(address: str, inputs: dict[str, Any]) -> tuple[Pcm, dict[str, Any]]:
    """One utterance from the model itself: its PCM and its `info`. Raises what Triton answers."""

    async def request() -> AsyncIterator[dict[str, Any]]:
        yield inputs

    chunks, info = [np.zeros(0, np.int16)], {}
    async for pcm, told in stream(address, request()):
        chunks.append(pcm)
        info = told or info
    return np.concatenate(chunks), info


async def stream(
    address: str, requests: AsyncIterator[dict[str, Any]], headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[Pcm, dict[str, Any] | None]]:
    """What the model answers to requests on one stream, as it comes. Raises what Triton says, by its message alone."""

    async def wire() -> AsyncIterator[dict[str, Any]]:
        async for inputs in requests:
            yield {"model_name": "qwen3_tts", "inputs": [_tensor(name, value) for name, value in inputs.items()]}

    async with asyncio.timeout(60), grpcclient.InferenceServerClient(address) as client:
        async for answer, error in client.stream_infer(wire(), headers=headers):
            if error is not None:
                raise error
            told = answer.as_numpy("info")
            yield answer.as_numpy("audio"), None if told is None else json.loads(told[0])


def _tensor(name: str, value: Any) -> Any:
    kinds = {"BYTES": np.object_, "FP32": np.float32, "UINT64": np.uint64, "INT32": np.int32, "BOOL": np.bool_}
    items = value if isinstance(value, np.ndarray) else [value.encode() if isinstance(value, str) else value]
    tensor = grpcclient.InferInput(name, [len(items)], TYPES[name])
    tensor.set_data_from_numpy(np.array(items, dtype=kinds[TYPES[name]]))
    return tensor
