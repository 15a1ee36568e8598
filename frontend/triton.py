"""Speech made by a Triton server: one gRPC stream per utterance, and the proof that the model behind it lives.

The only importer of grpc. It knows nothing of sockets.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any

import grpc
from tritonclient.grpc import InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from frontend import errors
from frontend.first_answer import first_answer
from frontend.live_requests import growing, only
from frontend.open_stream import OpenStream, told_to_end
from frontend.silence import Silence
from frontend.synthesis import Chunk, Description, ModelState, ModelStatus, SpeechRequest
from frontend.tracing import calling
from frontend.triton_contract import chunk, is_refusal, model_error, speaker, tensor

log = logging.getLogger(__name__)

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

_Responses = AsyncIterator[tuple[InferResult | None, InferenceServerException | None]]

# How long the model may take to hear that nobody listens, and a stream to end. Both take milliseconds.
CANCEL_S, ENDED_S = 0.5, 0.5
_UNWRITTEN = "Internal error from Core"  # grpc.aio's, where a write fails, for whatever has ended the call: issue 36066


class _Refused(Exception):
    """Triton itself turned the request away, before the model saw it; such an error has no status."""


class TritonSpeech:
    """Implements frontend.synthesis.Speech. Made and used within one event loop."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        balanced: bool = False,
        describe_timeout_s: float,
        accept_s: float,
        probe_s: float,
        stall_s: float,
    ) -> None:
        """balanced: behind `url` there may be several servers, so what one leaves unsaid is asked again of another."""
        self._client = InferenceServerClient(url, channel_args=CHANNEL_ARGUMENTS)
        self._url = url
        self._model = model
        self._balanced = balanced
        self._describe_timeout_s = describe_timeout_s
        self._accept_s = accept_s
        self._probe_s = probe_s
        self._stall_s = stall_s
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends every stream that is still open."""
        await self._client.close()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def speak(
        self, request: SpeechRequest, more: AsyncIterator[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Chunks as the model sends them; when the generator ends for any reason, so does the utterance.

        Where one of several servers hangs or dies before any sound of a text that cannot be lost, another that answers
        is asked once.
        """
        begun = False
        with calling(self._url) as trace:
            try:
                async with aclosing(self._chunks(request, more, trace, uuid.uuid4().hex)) as chunks:
                    async for heard in chunks:
                        begun = True
                        yield heard
                return
            except (errors.Unanswered, errors.BackendDied) as failure:
                # Of live text none is given away before it was taken in.
                can_be_lost = more is not None and not isinstance(failure, errors.Unanswered)
                if begun or can_be_lost or not self._balanced:
                    raise
                log.warning("asking for an utterance again: %s", failure)
                name = await self._answering(failure)
            async with aclosing(self._chunks(request, more, trace, name)) as chunks:
                async for heard in chunks:
                    yield heard

    async def _answering(self, failure: errors.SpeechError) -> str:
        """A name for an utterance by which a balancer knows a server that has just answered. Raises `failure`."""

        async def asked(within_s: float) -> str:
            name = uuid.uuid4().hex
            await self._described(within_s, name)
            return name

        try:
            return await first_answer(asked, self._accept_s)
        except errors.SpeechError:
            raise failure from None

    async def _chunks(
        self, request: SpeechRequest, more: AsyncIterator[str] | None, trace: dict[str, str], name: str
    ) -> AsyncGenerator[Chunk, None]:
        wishes = {key: value for key, value in asdict(request).items() if value is not None}
        inputs = wishes | {"utterance": name, "acknowledge": True}
        accepted, ended = asyncio.Event(), asyncio.Event()
        requests = only(inputs) if more is None else growing(inputs, more, accepted, ended)
        stream = self._open(requests, None, name, trace)
        silence = Silence(stream.cancel)
        watching: asyncio.Task[None] | None = None
        begun = over = False
        try:
            result = await self._first(stream, silence)
            while result is not None:
                heard = chunk(result)
                info = heard.info or {}
                if "error" in info:
                    over = True
                    raise model_error(info["error"], begun)
                if watching is None:
                    watching = asyncio.create_task(self._watch(silence, name, speaker(heard)))
                    accepted.set()
                elif not is_refusal(heard):
                    begun = True
                    over = over or "reason" in info
                    yield heard
                    if over:
                        ended.set()  # text that is still to come would keep the stream open
                result = await self._next(stream, silence)
        finally:
            ended.set()
            if watching is not None:
                watching.cancel()
            self._leave(stream, None if over else name)
        if not over:
            raise errors.InferenceFailed("the model ended the utterance without saying how")

    async def describe(self) -> Description:
        """The model's description of itself, asked of the model; where there are several, of any that answers.

        Raises NotReady when there is none in time or Triton does not serve the model, InferenceFailed otherwise.
        """
        if not self._balanced:
            return await self._described(self._describe_timeout_s)
        return await first_answer(self._described, self._describe_timeout_s)

    async def _described(self, within_s: float, utterance: str | None = None) -> Description:
        """As describe, asked once; utterance: by whose name a balancer chooses the server. Raises as describe."""
        stream = self._open(only({"describe": True}), within_s, utterance)
        try:
            result = await stream.next()
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                text = f"the model did not describe itself within {self._describe_timeout_s:g} s"
                raise errors.NotReady(text) from None
            raise _transport_error(failure) from None
        except _Refused as refusal:
            raise errors.NotReady(str(refusal)) from None
        finally:
            self._leave(stream)
        info = None if result is None else chunk(result).info
        if info is not None and "error" in info:
            raise model_error(info["error"], False)
        if info is None:
            raise errors.InferenceFailed("the model answered describe without info")
        instance, untrained = str(info["instance"]), bool(info.get("untrained_demo"))
        return Description(str(info["model"]), instance, untrained, info)

    async def model_status(self) -> ModelStatus:
        """The model's state in Triton's repository index. Raises NotReady when Triton does not answer."""
        try:
            index = await self._client.get_model_repository_index(client_timeout=self._describe_timeout_s)
        except InferenceServerException as failure:
            detail = f"{self._url}: {failure.message()}"
            raise errors.NotReady("Triton does not answer", detail=detail) from None
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

    def _open(
        self,
        requests: AsyncIterator[dict[str, Any]],
        timeout_s: float | None,
        utterance: str | None,
        trace: dict[str, str] | None = None,
    ) -> OpenStream[InferResult]:
        async def packed() -> AsyncIterator[dict[str, Any]]:
            # Its end half-closes the stream, after which the server ends it when all is sent.
            async for inputs in requests:
                yield {"model_name": self._model, "inputs": [tensor(*item) for item in inputs.items()]}

        # A balancer sends what concerns one utterance to one server by this header.
        name = {} if utterance is None else {UTTERANCE_HEADER: utterance}
        headers = name | (trace or {})
        responses = self._client.stream_infer(packed(), stream_timeout=timeout_s, headers=headers or None)
        return OpenStream(partial(_read, responses), responses.cancel)

    async def _watch(self, silence: Silence, name: str, instance: str) -> None:
        asking = partial(self._described, self._describe_timeout_s, name)
        await silence.watch(asking, instance, self._probe_s, self._stall_s)

    async def _first(self, stream: OpenStream[InferResult], silence: Silence) -> InferResult | None:
        """As `_next`. Raises also Unanswered, when there is none in time: a server that lives answers at once."""
        try:
            async with asyncio.timeout(self._accept_s):
                return await self._next(stream, silence)
        except TimeoutError:
            text = f"the model did not say within {self._accept_s:g} s that it took the utterance in"
            raise errors.Unanswered(text) from None

    async def _next(self, stream: OpenStream[InferResult], silence: Silence) -> InferResult | None:
        """The next response, None at the end of the stream. Raises SpeechError."""
        try:
            with silence.listening():
                return await stream.next()
        except asyncio.CancelledError:
            if told_to_end():
                raise
            # Cancelled, yet not by who waits: by the watch, or beneath us, as when the channel closes.
            raise silence.failure or errors.InferenceFailed("the stream from Triton was cancelled") from None
        except grpc.aio.AioRpcError as failure:
            log.warning("a stream from Triton broke off: %s: %s", failure.code().name, failure.details())
            raise _transport_error(failure) from None
        except _Refused as refusal:
            if (await self.model_status()).state is ModelState.READY:
                raise errors.InferenceFailed(f"Triton refused the request: {refusal}") from None
            raise errors.NotReady(str(refusal)) from None

    def _leave(self, stream: OpenStream[InferResult], name: str | None = None) -> None:
        """Nobody listens to it any more; name: of the utterance, unless all of it was heard."""
        leaving = asyncio.create_task(self._end(stream, name))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _end(self, stream: OpenStream[InferResult], name: str | None) -> None:
        """Tells the model at once, and lets the stream end by itself; one that does not is cancelled."""
        # The first word may overtake the utterance itself, and then goes unheard.
        for _ in range(1 if name is None else 2):
            if name is not None:
                await self._cancel(name)
            if await stream.ends(ENDED_S):
                return
        stream.cancel()

    async def _cancel(self, name: str) -> None:
        stream = self._open(only({"utterance": name, "cancel": True}), CANCEL_S, name)
        if not await stream.ends(CANCEL_S):
            stream.cancel()


async def _read(responses: _Responses) -> InferResult | None:
    async for result, refusal in responses:
        if refusal is not None:
            raise _Refused(refusal.message())
        return result
    return None


def _transport_error(failure: grpc.aio.AioRpcError) -> errors.SpeechError:
    """gRPC's own words name addresses: they are the detail."""
    detail = f"{failure.code().name}: {failure.details()}"
    if failure.code() is grpc.StatusCode.UNAVAILABLE or failure.details() == _UNWRITTEN:
        return errors.NotReady("Triton does not answer", detail=detail)
    return errors.InferenceFailed("Triton broke the call off", detail=detail)
