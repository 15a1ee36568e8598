"""How clients of a crowd behave on Triton's gRPC: clones of recordings of their own, streams cancelled, bad tensors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import InferenceServerException

from benchmarks.serving_doors import REFUSALS
from benchmarks.soak_recordings import RATE, recording
from benchmarks.soak_tally import Unexpected, Visit
from commands.stack import MODEL

_KINDS = {str: "BYTES", bytes: "BYTES", bool: "BOOL", int: "INT32", float: "FP32"}
_NUMPY = {"BYTES": np.object_, "BOOL": np.bool_, "INT32": np.int32, "FP32": np.float32}
_BAD: tuple[dict[str, Any], ...] = (
    {},
    {"text": " "},
    {"text": b"\xff\xfe"},
    {"text": 5},
    {"text": "Hello.", "voice": "nobody"},
    {"text": "Hello.", "temperature": -1.0},
    {"text": "Hello.", "temperature": float("nan")},
    {"text": "Hello.", "top_k": -1},
    {"text": "Hello.", "max_frames": 0},
    {"text": "Hello.", "lyrics": "la la"},
    {"text": "Hello.", "reference_sample_rate": RATE},
    {"text": "Hello.", "reference_audio": np.full(RATE * 2, np.nan, np.float32), "reference_sample_rate": RATE},
    {"text": "Hello.", "reference_audio": np.zeros(10, np.float32), "reference_sample_rate": RATE},
    {"text": "Hello.", "reference_audio": np.zeros(0, np.float32), "reference_sample_rate": RATE},
    {"text": "word " * 5000},
    {"cancel": True},
)


async def clones(visit: Visit) -> None:
    """An utterance in the voice of a recording nobody has sent before, in context or not."""
    visit.count("recordings")
    refused = await _infer(visit, {"text": visit.text(), **_voice(visit)})
    visit.count("utterances")
    if refused is None:
        return visit.count("complete")
    if refused not in REFUSALS:
        raise Unexpected(f"a clone was refused with {refused}")
    visit.count("refused")


async def cancels_a_stream(visit: Visit) -> None:
    """Leaves a stream at a random moment, by its name or without a word, sometimes while its voice is encoded."""
    drawn = visit.drawn
    inputs: dict[str, Any] = {"text": visit.text(5), "utterance": f"{drawn.getrandbits(128):032x}"}
    if drawn.random() < 0.3:
        inputs |= _voice(visit)
    visit.count("utterances")
    visit.count("cancels")
    async with grpcclient.InferenceServerClient(visit.places.triton) as client:
        stream = client.stream_infer(_requests([inputs]))
        listening = asyncio.create_task(_listen(stream))
        await asyncio.wait({listening}, timeout=drawn.uniform(0, 1.5))
        if drawn.random() < 0.5:
            await _listen(client.stream_infer(_requests([{"utterance": inputs["utterance"], "cancel": True}])))
        stream.cancel()
        await asyncio.wait({listening})
        if not listening.cancelled():
            listening.exception()


async def sends_bad_tensors(visit: Visit) -> None:
    """What the contract does not allow, each refused with an error and nothing else."""
    for bad in visit.drawn.sample(_BAD, 3):
        visit.count("mistakes")
        if await _infer(visit, bad) is None:
            raise Unexpected(f"no error for {sorted(bad)}, {str(bad)[:60]}")


def _voice(visit: Visit) -> dict[str, Any]:
    voice = {"reference_audio": recording(visit.drawn, 1.2, 4.0), "reference_sample_rate": RATE}
    return voice | ({"reference_text": "these are the words"} if visit.drawn.random() < 0.5 else {})


async def _infer(visit: Visit, inputs: dict[str, Any]) -> str | None:
    """One request on a stream of its own; the code of its error, or None. Raises Unexpected for an end without any."""
    async with grpcclient.InferenceServerClient(visit.places.triton) as client:
        return await _listen(client.stream_infer(_requests([inputs])))


async def _listen(stream: Any) -> str | None:
    refused: str | None = None
    async for answer, error in stream:
        if error is not None:
            return refused or f"Triton: {_without_names(error)}"
        info = None if answer.as_numpy("info") is None else json.loads(answer.as_numpy("info").item())
        refused = (info or {}).get("error", {}).get("code", refused)
    return refused


def _without_names(error: InferenceServerException) -> str:
    return str(error.message())[:80]


async def _requests(several: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for inputs in several:
        yield {"model_name": MODEL, "inputs": [_tensor(name, value) for name, value in inputs.items()]}


def _tensor(name: str, value: Any) -> grpcclient.InferInput:
    if isinstance(value, np.ndarray):
        tensor, data = grpcclient.InferInput(name, list(value.shape), "FP32"), value
    else:
        kind = _KINDS[type(value)]
        item = value.encode() if isinstance(value, str) else value
        tensor, data = grpcclient.InferInput(name, [1], kind), np.array([item], dtype=_NUMPY[kind])
    tensor.set_data_from_numpy(data)
    return tensor
