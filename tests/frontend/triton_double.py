"""A gRPC server that speaks Triton's protocol and does what a test tells it, on a real port in this process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from frontend.synthesis import Chunk, Speech, SpeechRequest
from frontend.triton import TritonSpeech

INSTANCE = "one"
FRAME = bytes(range(256)) * 15
INFO = {"reason": "complete", "frames": 1}
LIMITS = {"describe_timeout_s": 2.0, "accept_s": 5.0, "probe_s": 0.05, "stall_s": 30.0}

Response = service_pb2.ModelStreamInferResponse
# What the double does with one utterance: it sends by the callable it is given.
Behaviour = Callable[["Stream"], Awaitable[None]]


def response(pcm: bytes | None, info: dict | None = None) -> Response:
    """One response as Triton's Python backend makes it."""
    inner = service_pb2.ModelInferResponse(model_name="qwen3_tts")
    if pcm is not None:
        inner.outputs.add(name="audio", datatype="INT16", shape=[len(pcm) // 2])
        inner.raw_output_contents.append(pcm)
    if info is not None:
        inner.outputs.add(name="info", datatype="BYTES", shape=[1])
        packed = serialize_byte_tensor(np.array([json.dumps(info).encode()], dtype=np.object_))
        inner.raw_output_contents.append(packed.item())
    return Response(infer_response=inner)


@dataclass
class Stream:
    """One utterance on the double's side."""

    request: service_pb2.ModelInferRequest
    metadata: dict[str, str]
    context: grpc.aio.ServicerContext
    half_closed: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    appended: asyncio.Queue[dict[str, tuple[str, list[int], bytes]]] = field(default_factory=asyncio.Queue)
    taken_in: bool = False

    async def take_in(self) -> None:
        """The notice that this utterance was taken in, which comes before all sound where it was asked for."""
        if "acknowledge" in self.inputs() and not self.taken_in:
            self.taken_in = True
            await self.context.write(response(b"", {"accepted": True, "instance": INSTANCE}))

    async def send(self, pcm: bytes | None, info: dict | None = None) -> None:
        await self.take_in()
        await self.context.write(response(pcm, info))

    async def fail(self, code: str, text: str, **more: float) -> None:
        """As the model does: its code in `info`, then the error, which has lost it."""
        await self.context.write(response(None, {"error": {"code": code, "message": text, **more}}))
        await self.refuse(text)

    async def break_off(self, status: grpc.StatusCode, text: str) -> None:
        """The whole call ends, as when a server goes away."""
        await self.context.abort(status, text)

    async def refuse(self, text: str) -> None:
        """As Triton's core does when the request does not reach the model: no status."""
        await self.context.write(Response(error_message=text))

    def inputs(self) -> dict[str, tuple[str, list[int], bytes]]:
        return inputs_of(self.request)

    @property
    def is_live(self) -> bool:
        return "text_complete" in self.inputs()


def inputs_of(request: service_pb2.ModelInferRequest) -> dict[str, tuple[str, list[int], bytes]]:
    """Name -> type, shape and bytes."""
    tensors = zip(request.inputs, request.raw_input_contents, strict=True)
    return {tensor.name: (tensor.datatype, list(tensor.shape), raw) for tensor, raw in tensors}


class TritonDouble(service_pb2_grpc.GRPCInferenceServiceServicer):
    """`behaviour` is one utterance; describe is answered with `description` unless it is a behaviour of its own."""

    def __init__(self) -> None:
        self.behaviour: Behaviour | None = None
        self.description: dict | Behaviour = {"model": "tiny", "instance": INSTANCE, "untrained_demo": True}
        self.index: list[tuple[str, str, str]] = [("qwen3_tts", "READY", "")]
        self.streams: list[Stream] = []
        self.left: asyncio.Queue[str] = asyncio.Queue()
        self.opened = asyncio.Event()

    async def ModelStreamInfer(self, requests: AsyncIterator, context: grpc.aio.ServicerContext) -> None:
        request = await anext(aiter(requests))
        stream = Stream(request, dict(context.invocation_metadata()), context)
        try:
            if any(tensor.name == "describe" for tensor in request.inputs):
                await self._describe(stream)
                return
            if any(tensor.name == "cancel" for tensor in request.inputs):
                self.left.put_nowait(stream.inputs()["utterance"][2][4:].decode())
                return
            self.streams.append(stream)
            self.opened.set()
            assert self.behaviour is not None
            if stream.is_live:
                await self._live(stream, requests)
                return
            async for _ in requests:
                raise AssertionError("a second request on the stream of an utterance")
            stream.half_closed.set()
            await self.behaviour(stream)
        except asyncio.CancelledError:
            stream.cancelled.set()
            raise

    async def _live(self, stream: Stream, requests: AsyncIterator) -> None:
        async def take() -> None:
            async for request in requests:
                stream.appended.put_nowait(inputs_of(request))
            stream.half_closed.set()

        assert self.behaviour is not None
        taking = asyncio.create_task(take())
        try:
            await self.behaviour(stream)
        finally:
            taking.cancel()

    async def _describe(self, stream: Stream) -> None:
        if isinstance(self.description, dict):
            await stream.send(b"", self.description)
        else:
            await self.description(stream)

    async def RepositoryIndex(
        self, request: service_pb2.RepositoryIndexRequest, context: grpc.aio.ServicerContext
    ) -> service_pb2.RepositoryIndexResponse:
        answer = service_pb2.RepositoryIndexResponse()
        for name, state, reason in self.index:
            answer.models.add(name=name, version="1", state=state, reason=reason)
        return answer


@asynccontextmanager
async def serving(double: TritonDouble, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serves the double within the block; gives its address."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(double, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def speech_from(double: TritonDouble, *, balanced: bool = False, **limits: float) -> AsyncIterator[TritonSpeech]:
    """The frontend's speech, made by the double, within the block; limits: seconds, as TritonSpeech takes them."""
    async with serving(double) as address:
        speech = TritonSpeech(address, "qwen3_tts", balanced=balanced, **limits)
        yield speech
        await speech.close()


async def spoken(speech: Speech, request: SpeechRequest, more: AsyncIterator[str] | None = None) -> list[Chunk]:
    """All chunks of one utterance."""
    async with aclosing(speech.speak(request, more)) as chunks:
        return [chunk async for chunk in chunks]


async def cancelled_once_opened(double: TritonDouble, speech: Speech, request: SpeechRequest) -> None:
    """Cancels whoever waits for an utterance whose stream has begun; returns when the server sees it cancelled."""
    speaking = asyncio.create_task(spoken(speech, request))
    await asyncio.wait_for(double.opened.wait(), 5)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    await asyncio.wait_for(double.streams[0].cancelled.wait(), 5)


async def fall_silent(stream: Stream) -> None:
    await asyncio.Event().wait()


async def take_in_and_fall_silent(stream: Stream) -> None:
    await stream.take_in()
    await fall_silent(stream)


async def speak_once_and_fall_silent(stream: Stream) -> None:
    await stream.send(FRAME)
    await fall_silent(stream)
