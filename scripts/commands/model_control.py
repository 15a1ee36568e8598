"""What a supervisor asks of a running Triton about one model: is it well, load it, unload it.

Health is a real `describe` request: Triton goes on calling a model ready whose stub process has died. Knows
neither processes nor what to do about an answer.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self

import grpc
import numpy as np
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import InferenceServerException

from commands import CommandFailed

# A server that was restarted must be found again at once, not after gRPC's growing pauses.
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class ModelUnwell(Exception):
    """The model gave no answer to `describe`; the message says what came instead."""


@dataclass(frozen=True)
class ModelState:
    """Triton's own word on a model: READY, LOADING, UNLOADING or UNAVAILABLE, and its reason for the last."""

    name: str
    reason: str


class ModelControl:
    """One gRPC connection to a Triton, for one model. Used from one event loop."""

    def __init__(self, url: str, model: str) -> None:
        self._client = grpcclient.InferenceServerClient(url, channel_args=CHANNEL)
        self._model = model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.close()

    async def describe(self, patience: float) -> dict[str, Any]:
        """The model's description of itself. Raises ModelUnwell when none comes in `patience` seconds."""
        answers = self._client.stream_infer(_describe_request(self._model))
        try:
            async with asyncio.timeout(patience):
                async for answer, error in answers:
                    if error is not None:
                        raise ModelUnwell(_first_line(error.message()))
                    return json.loads(answer.as_numpy("info")[0])
            raise ModelUnwell("describe was answered with nothing")
        except TimeoutError as error:
            raise ModelUnwell(f"describe was not answered within {patience:g} s") from error
        except grpc.aio.AioRpcError as error:
            raise ModelUnwell(_first_line(error.details())) from error
        finally:
            answers.cancel()

    async def state(self, patience: float) -> ModelState:
        """What Triton says of the model; UNAVAILABLE when it knows none or does not answer."""
        try:
            index = await self._client.get_model_repository_index(client_timeout=patience)
        except InferenceServerException as error:
            return ModelState("UNAVAILABLE", _first_line(error.message()))
        for entry in index.models:
            if entry.name == self._model:
                return ModelState(entry.state or "UNAVAILABLE", _first_line(entry.reason))
        return ModelState("UNAVAILABLE", f"Triton knows no model {self._model}")

    async def load(self) -> None:
        """Returns when the model is loaded, however long it takes. Raises CommandFailed with Triton's reason."""
        try:
            await self._client.load_model(self._model)
        except InferenceServerException as error:
            reason = (await self.state(patience=2)).reason or _first_line(error.message())
            raise CommandFailed(f"the model could not be loaded: {reason}") from error

    async def unload(self, patience: float) -> None:
        """Asks Triton to let go of the model; a model that is not there is unloaded already.

        Raises CommandFailed when Triton does not answer within `patience` seconds.
        """
        try:
            await self._client.unload_model(self._model, client_timeout=patience)
        except InferenceServerException as error:
            reason = _first_line(error.message())
            raise CommandFailed(f"tritonserver cannot unload the model: {reason}") from error


async def _describe_request(model: str) -> Any:
    describe = grpcclient.InferInput("describe", [1], "BOOL")
    describe.set_data_from_numpy(np.array([True]))
    yield {"model_name": model, "inputs": [describe]}


def _first_line(message: str | None) -> str:
    """The part of Triton's message for people: its first line, without the layers it came through."""
    lines = (message or "").strip().splitlines() or ["no reason given"]
    return lines[0].removeprefix("Internal: ").removeprefix("TritonModelException: ")
