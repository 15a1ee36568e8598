"""Speech made by a Triton server: one gRPC stream per utterance, and the proof that the model behind it lives.

The only importer of tritonclient and grpc, and the frontend's side of the contract. It knows nothing of sockets.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from frontend import errors
from frontend.live_requests import growing, only
from frontend.silence import Silence
from frontend.synthesis import Chunk, Description, ModelState, ModelStatus, Segment, SpeechRequest
from frontend.tracing import calling

log = logging.getLogger(__name__)

# The contract, in the words of config.pbtxt.
INPUTS = {
    "text": "TYPE_STRING",
    "voice": "TYPE_STRING",
    "language": "TYPE_STRING",
    "instruct": "TYPE_STRING",
    "reference_audio": "TYPE_FP32",
    "reference_sample_rate": "TYPE_INT32",
    "reference_text": "TYPE_STRING",
    "temperature": "TYPE_FP32",
    "top_k": "TYPE_INT32",
    "top_p": "TYPE_FP32",
    "repetition_penalty": "TYPE_FP32",
    "predictor_temperature": "TYPE_FP32",
    "predictor_top_k": "TYPE_INT32",
    "predictor_top_p": "TYPE_FP32",
    "seed": "TYPE_UINT64",
    "max_frames": "TYPE_INT32",
    "text_placement": "TYPE_STRING",
    "trim_leading_silence": "TYPE_BOOL",
    "utterance": "TYPE_STRING",
    "text_complete": "TYPE_BOOL",
    "cancel": "TYPE_BOOL",
    "describe": "TYPE_BOOL",
}
OUTPUTS = {"audio": "TYPE_INT16", "info": "TYPE_STRING"}

# The code of the model's `info.error` -> what it means; anything else is InferenceFailed.
ERRORS: dict[str, type[errors.SpeechError]] = {
    "INVALID_ARG": errors.InvalidRequest,
    "NOT_FOUND": errors.UnknownVoice,
    "UNSUPPORTED": errors.Unsupported,
    "UNAVAILABLE": errors.Overloaded,
}

# The name of an utterance, so that a balancer sends what is asked about it to the server that speaks it.
UTTERANCE_HEADER = "x-utterance"

# A model's state UNAVAILABLE has this reason after an unload, and the cause after a failed load.
UNLOADED = "unloaded"

CHANNEL_ARGUMENTS = [
    ("grpc.max_receive_message_length", -1),
    # Pings find a dead network; Triton refuses more frequent ones, and any when nothing is asked.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # The default backs off for two minutes, long after a restarted server serves again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]

_Requests = AsyncIterator[dict[str, Any]]
_More = AsyncIterator[str] | None
_WIRE = {"TYPE_STRING": "BYTES", "TYPE_BOOL": "BOOL"}
_NUMPY = {
    "TYPE_STRING": np.object_,
    "TYPE_BOOL": np.bool_,
    "TYPE_FP32": np.float32,
    "TYPE_INT32": np.int32,
    "TYPE_UINT64": np.uint64,
}


# Before each element of a tensor of texts stands its length; `info` has one.
_LENGTH_BYTES = 4


class _Refused(Exception):
    """Triton itself turned the request away, before the model saw it; such an error has no status."""


class _Responses(Protocol):
    """The open stream of one request."""

    def __aiter__(self) -> AsyncIterator[tuple[InferResult | None, InferenceServerException | None]]: ...
    def cancel(self) -> bool: ...


class TritonSpeech:
    """Implements frontend.synthesis.Speech. Made and used within one event loop."""

    def __init__(self, url: str, model: str, *, describe_timeout_s: float, probe_s: float, stall_s: float) -> None:
        self._client = InferenceServerClient(url, channel_args=CHANNEL_ARGUMENTS)
        self._url = url
        self._model = model
        self._describe_timeout_s = describe_timeout_s
        self._probe_s = probe_s
        self._stall_s = stall_s
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends every stream that is still open."""
        await self._client.close()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def speak(self, request: SpeechRequest, more: _More = None) -> AsyncGenerator[Chunk, None]:
        """Chunks as the model sends them; the stream is cancelled when the generator ends for any reason."""
        with calling(self._url) as trace:
            async with aclosing(self._chunks(request, more, trace)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _chunks(self, request: SpeechRequest, more: _More, trace: dict[str, str]) -> AsyncGenerator[Chunk, None]:
        name = uuid.uuid4().hex
        inputs = {key: value for key, value in asdict(request).items() if value is not None} | {"utterance": name}
        accepted, ended = asyncio.Event(), asyncio.Event()
        requests = only(inputs) if more is None else growing(inputs, more, accepted, ended)
        responses = self._open(requests, None, trace | {UTTERANCE_HEADER: name})
        silence = Silence(responses.cancel)
        watching = asyncio.create_task(silence.watch(partial(self.describe, name), self._probe_s, self._stall_s))
        begun = over = False
        try:
            while (result := await self._next(responses, silence)) is not None:
                accepted.set()
                chunk = _chunk(result)
                if chunk.info is not None and "error" in chunk.info:
                    over = True
                    raise _model_error(chunk.info["error"], begun)
                if _is_notice(chunk):
                    continue
                begun = True
                over = over or (chunk.info is not None and "reason" in chunk.info)
                yield chunk
                if over:
                    ended.set()  # text that is still to come would keep the stream open
        finally:
            ended.set()
            watching.cancel()
            responses.cancel()
            if not over:
                self._leave(name)
        if not over:
            raise errors.InferenceFailed("the model ended the utterance without saying how")

    async def describe(self, utterance: str | None = None) -> Description:
        """The model's description of itself, asked of the model; where there are several, of that which speaks.

        Raises NotReady when there is none in time or Triton does not serve the model, InferenceFailed otherwise.
        """
        headers = {} if utterance is None else {UTTERANCE_HEADER: utterance}
        responses = self._open(only({"describe": True}), self._describe_timeout_s, headers)
        try:
            result = await _read(responses)
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                text = f"the model did not describe itself within {self._describe_timeout_s:g} s"
                raise errors.NotReady(text) from None
            raise _transport_error(failure) from None
        except _Refused as refusal:
            raise errors.NotReady(str(refusal)) from None
        finally:
            responses.cancel()
        info = None if result is None else _chunk(result).info
        if info is not None and "error" in info:
            raise _model_error(info["error"], False)
        if info is None:
            raise errors.InferenceFailed("the model answered describe without info")
        instance, untrained = str(info["instance"]), bool(info.get("untrained_demo"))
        return Description(str(info["model"]), instance, untrained, info)

    async def model_status(self) -> ModelStatus:
        """The model's state in Triton's repository index. Raises NotReady when Triton does not answer."""
        try:
            index = await self._client.get_model_repository_index(client_timeout=self._describe_timeout_s)
        except InferenceServerException as failure:
            raise errors.NotReady(f"Triton at {self._url} does not answer: {failure.message()}") from None
        versions = [entry for entry in index.models if entry.name == self._model]
        states = {entry.state for entry in versions}
        if "READY" in states:
            return ModelStatus(ModelState.READY)
        if "LOADING" in states:
            return ModelStatus(ModelState.LOADING)
        failures = [entry.reason for entry in versions if entry.state == "UNAVAILABLE" and entry.reason != UNLOADED]
        if failures:
            return ModelStatus(ModelState.FAILED, failures[0].strip())
        return ModelStatus(ModelState.ABSENT)

    def _open(self, requests: _Requests, timeout_s: float | None, headers: dict[str, str]) -> _Responses:
        async def packed() -> _Requests:
            # Its end half-closes the stream, after which the server ends it when all is sent.
            async for inputs in requests:
                yield {"model_name": self._model, "inputs": [_tensor(*item) for item in inputs.items()]}

        return self._client.stream_infer(packed(), stream_timeout=timeout_s, headers=headers)

    async def _next(self, responses: _Responses, silence: Silence) -> InferResult | None:
        """The next response, None at the end of the stream. Raises SpeechError."""
        try:
            with silence.listening():
                return await _read(responses)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Cancelled, yet not by who waits: by the watch, or beneath us, as when the channel closes.
            raise silence.failure or errors.InferenceFailed("the stream from Triton was cancelled") from None
        except grpc.aio.AioRpcError as failure:
            raise _transport_error(failure) from None
        except _Refused as refusal:
            if (await self.model_status()).state is ModelState.READY:
                raise errors.InferenceFailed(f"Triton refused the request: {refusal}") from None
            raise errors.NotReady(str(refusal)) from None

    def _leave(self, name: str) -> None:
        """Tells the model at once that nobody listens any more; Triton's own cancel reaches it when it next looks."""
        leaving = asyncio.create_task(self._cancel(name))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _cancel(self, name: str) -> None:
        responses = self._open(
            only({"utterance": name, "cancel": True}), self._describe_timeout_s, {UTTERANCE_HEADER: name}
        )
        try:
            await _read(responses)
        except (grpc.aio.AioRpcError, _Refused) as failure:
            log.debug("a cancel was not heard: %s", failure)  # the cancelled stream says the same
        finally:
            responses.cancel()


async def _read(responses: _Responses) -> InferResult | None:
    async for result, refusal in responses:
        if refusal is not None:
            raise _Refused(refusal.message())
        return result
    return None


def _tensor(name: str, value: str | bool | int | float) -> InferInput:
    kind = INPUTS[name]
    tensor = InferInput(name, [1], _WIRE.get(kind, kind.removeprefix("TYPE_")))
    item = value.encode() if isinstance(value, str) else value
    tensor.set_data_from_numpy(np.array([item], dtype=_NUMPY[kind]))
    return tensor


def _chunk(result: InferResult) -> Chunk:
    response = result.get_response()
    contents = {tensor.name: raw for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)}
    info = contents.get("info")
    facts = {} if info is None else json.loads(info[_LENGTH_BYTES:])
    segment = facts.pop("segment", None)
    begun = None if segment is None else Segment(segment["text_start"], segment["text_end"], segment["sample_offset"])
    return Chunk(contents.get("audio", b""), facts or None, begun)


def _is_notice(chunk: Chunk) -> bool:
    """Whether a response only tells how a request of live text was taken."""
    info = chunk.info or {}
    if "refused" in info:
        log.warning("the model refused more text: %s", info["refused"])
    return "accepted" in info or "refused" in info


def _model_error(error: dict[str, Any], begun: bool) -> errors.SpeechError:
    # Speech that has begun cannot be refused any more: it broke off.
    kind = errors.InferenceFailed if begun else ERRORS.get(error["code"], errors.InferenceFailed)
    if kind is errors.Overloaded:
        retry_s = error.get("retry_after_s")
        return errors.Overloaded(error["message"], None if retry_s is None else round(1000 * retry_s))
    return kind(error["message"])


def _transport_error(failure: grpc.aio.AioRpcError) -> errors.SpeechError:
    away = failure.code() is grpc.StatusCode.UNAVAILABLE
    return (errors.NotReady if away else errors.InferenceFailed)(failure.details() or failure.code().name)
