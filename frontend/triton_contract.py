"""The frontend's side of the contract: values to tensors, responses to chunks and errors. Knows no stream."""

import json
import logging
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput, InferResult

from frontend import errors
from frontend.synthesis import Chunk, Segment

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
    "acknowledge": "TYPE_BOOL",
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


def tensor(name: str, value: str | bool | int | float) -> InferInput:
    """One input, by its name in the contract."""
    kind = INPUTS[name]
    sent = InferInput(name, [1], _WIRE.get(kind, kind.removeprefix("TYPE_")))
    item = value.encode() if isinstance(value, str) else value
    sent.set_data_from_numpy(np.array([item], dtype=_NUMPY[kind]))
    return sent


def chunk(result: InferResult) -> Chunk:
    """What one response carries."""
    response = result.get_response()
    contents = {output.name: raw for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)}
    info = contents.get("info")
    facts = {} if info is None else json.loads(info[_LENGTH_BYTES:])
    segment = facts.pop("segment", None)
    begun = None if segment is None else Segment(segment["text_start"], segment["text_end"], segment["sample_offset"])
    return Chunk(contents.get("audio", b""), facts or None, begun)


def speaker(heard: Chunk) -> str:
    """The instance that says, in the first response, that it took the utterance in. Raises InferenceFailed."""
    info = heard.info or {}
    if "accepted" not in info:
        raise errors.InferenceFailed("the model answered before it said that it took the utterance in")
    return str(info["instance"])


def is_refusal(heard: Chunk) -> bool:
    """Whether a response only tells that more text of a live utterance was not taken."""
    refused = (heard.info or {}).get("refused")
    if refused is not None:
        log.warning("the model refused more text: %s", refused)
    return refused is not None


def model_error(error: dict[str, Any], begun: bool) -> errors.SpeechError:
    """The error that `info` tells of; begun: whether sound has come before it."""
    # Speech that has begun cannot be refused any more: it broke off.
    kind = errors.InferenceFailed if begun else ERRORS.get(error["code"], errors.InferenceFailed)
    if kind is errors.Overloaded:
        retry_s = error.get("retry_after_s")
        return errors.Overloaded(error["message"], None if retry_s is None else round(1000 * retry_s))
    return kind(error["message"])
