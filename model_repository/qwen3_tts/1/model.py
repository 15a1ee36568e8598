"""The Triton side of the model: tensors to `Speak`, sound to response senders, errors to status codes, and a line of
log for each utterance. The only file that knows Triton's Python backend; everything it serves is made by tts_engine.
"""

import gc
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from tts_engine import (
    Acceleration,
    Delivery,
    Engine,
    EngineConfig,
    EngineFailed,
    EngineMetrics,
    InvalidRequest,
    LoadError,
    Overloaded,
    Speak,
    Trace,
    TtsError,
    UnknownVoice,
    Unsupported,
    ended_line,
    refused_line,
)

_TEXTS = ("text", "voice", "language", "instruct", "reference_text", "text_placement", "utterance")
_NUMBERS = (
    "reference_sample_rate",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "predictor_temperature",
    "predictor_top_k",
    "predictor_top_p",
    "seed",
    "max_frames",
    "trim_leading_silence",
    "text_complete",
)
_ARRAYS = ("reference_audio",)
INPUTS = (*_TEXTS, *_NUMBERS, *_ARRAYS, "acknowledge", "cancel", "describe")
OUTPUTS = ("audio", "info")
_MAX_NAME_CHARS = 256  # of an utterance: names are kept, compared and sent about as long as their utterances live

# Names of pb_utils.TritonError's codes: Triton fills pb_utils in only after it has imported this file.
_STATUS = {
    InvalidRequest: "INVALID_ARG",
    Unsupported: "UNSUPPORTED",
    UnknownVoice: "NOT_FOUND",
    Overloaded: "UNAVAILABLE",
    EngineFailed: "INTERNAL",
}
log = logging.getLogger("qwen3_tts")


class TritonPythonModel:
    """Loaded by Triton once per server; see config.pbtxt for the contract."""

    def initialize(self, args):
        """Load the checkpoint and start the engine; what goes wrong becomes the reason of the failed load."""
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        parameters = json.loads(args["model_config"]).get("parameters", {})
        try:
            config = EngineConfig.from_parameters({k: v["string_value"] for k, v in parameters.items()})
            self._engine = Engine.load(
                _checkpoint(),
                config,
                _voices(Path(args["model_repository"])),
                device=os.environ.get("QWEN3_TTS_DEVICE", "auto"),
                dtype=os.environ.get("QWEN3_TTS_DTYPE", "auto"),
                threads=os.environ.get("QWEN3_TTS_THREADS", "auto"),
                acceleration=Acceleration(
                    kernels=os.environ.get("QWEN3_TTS_KERNELS", "auto"), tf32=os.environ.get("QWEN3_TTS_TF32", "auto")
                ),
            )
        except LoadError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self._metrics = EngineMetrics(pb_utils.MetricFamily, self._engine.slots, self._engine.statistics)
        self._delivery = Delivery(self._engine.cancel, self._engine.fail, self._metrics)
        # What is loaded stays, so no search for garbage need look at it again: it would hold up every utterance.
        gc.collect()
        gc.freeze()
        self._engine.start()
        self._delivery.start()

    def execute(self, requests):
        """Start each request and return at once; responses come from the delivery thread."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if _is_set(request, "describe"):
                    sender.send(_notice(self._engine.describe()), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                elif _is_set(request, "cancel"):
                    self._delivery.leave(_name(request))
                    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                else:
                    self._serve(request, sender)
            except TtsError as error:
                _refuse(sender, error)

    def _serve(self, request, sender):
        """Start an utterance, or continue one. Raises TtsError."""
        trace = Trace.read(json.loads(request.parameters()))
        try:
            speak = _speak(request)
            if self._continues(speak, sender):
                return
            # More live text may not be sent before, and who asked for it tells a server that hangs by its absence.
            wanted = speak.is_live or _is_set(request, "acknowledge")
            notice = {"accepted": True, "instance": self._engine.instance} if wanted else None
            stream = _Stream(sender, notice, lambda outcome: self._ended(outcome, speak, trace))
            self._delivery.open(stream, lambda sink: self._engine.submit(speak, sink), name=speak.utterance)
        except TtsError as error:
            self._metrics.refused(error)
            log.info(refused_line(error, trace))
            raise

    def _ended(self, outcome, speak, trace):
        """On the delivery thread, when the listener was told."""
        log.info(ended_line(outcome, speak, trace))
        self._metrics.ended(outcome)

    def _continues(self, speak, sender):
        """Whether this is more text for an utterance that is open, or was until just now.

        It then has no response but, when refused, its reason: that is no error of the utterance, which goes on
        without this text.
        """
        name, complete = speak.utterance, speak.text_complete
        if name is None or complete is None or not (speak.is_text_alone or self._engine.is_open(name)):
            return False
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        try:
            if not self._engine.append(name, speak.text, complete=complete):
                return False
        except InvalidRequest as error:
            sender.send(_notice({"refused": str(error)}), flags=final)
            return True
        sender.send(flags=final)
        return True

    def finalize(self):
        """End every utterance and join both threads."""
        self._engine.shutdown()
        self._delivery.stop()


class _Stream:
    """A response sender as the delivery thread sees it. notice: what its client is told before all sound, if any."""

    def __init__(self, sender, notice, ended):
        self._sender, self._notice, self._ended = sender, notice, ended

    def accept(self):
        if self._notice is not None:
            self._sender.send(_notice(self._notice))

    def send(self, pcm, segment):
        tensors = [pb_utils.Tensor("audio", pcm)]
        if segment is not None:
            tensors.append(_json_tensor({"segment": asdict(segment)}))
        self._sender.send(pb_utils.InferenceResponse(output_tensors=tensors))

    def finish(self, pcm, outcome):
        try:
            self._finish(pcm, outcome)
        finally:
            self._ended(outcome)

    def _finish(self, pcm, outcome):
        if outcome.error is not None:
            _refuse(self._sender, outcome.error)
        elif outcome.reason == "cancelled":
            _fail(self._sender, "CANCELLED", "the utterance was cancelled")
        else:
            tensors = [pb_utils.Tensor("audio", pcm), _json_tensor(outcome.info)]
            response = pb_utils.InferenceResponse(output_tensors=tensors)
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self):
        return self._sender.is_cancelled()


def _checkpoint():
    folder = os.environ.get("QWEN3_TTS_MODEL")
    if not folder:
        raise LoadError("the environment variable QWEN3_TTS_MODEL must name a checkpoint directory")
    return Path(folder)


def _voices(model_folder):
    """The folder named by QWEN3_TTS_VOICES, else `voices` beside the model repository where there is one."""
    named = os.environ.get("QWEN3_TTS_VOICES")
    beside = model_folder.parent.parent / "voices"
    return Path(named) if named else (beside if beside.is_dir() else None)


def _is_set(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return tensor is not None and bool(tensor.as_numpy().reshape(-1)[0])


def _name(request):
    """The utterance a request is about. Raises InvalidRequest when it names none, or one that can be none."""
    tensor = pb_utils.get_input_tensor_by_name(request, "utterance")
    if tensor is None:
        raise InvalidRequest("cancel needs utterance, the name of what is to be cancelled")
    return _text("utterance", tensor.as_numpy().reshape(-1)[0])


def _speak(request):
    """Raises InvalidRequest for a missing text, for text that is not UTF-8, and for a name that is too long."""
    values = {}
    for tensor in request.inputs():
        name = tensor.name()
        array = tensor.as_numpy()
        if name in _TEXTS:
            values[name] = _text(name, array.reshape(-1)[0])
        elif name in _NUMBERS:
            values[name] = array.reshape(-1)[0].item()
        elif name in _ARRAYS:
            values[name] = np.array(array)  # a copy: the request's memory is gone when execute returns
    if "text" not in values:
        raise InvalidRequest("text is missing")
    return Speak(**values)


def _text(name, data):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not valid UTF-8: {error}") from error
    if name == "utterance" and len(text) > _MAX_NAME_CHARS:
        raise InvalidRequest(f"{name} must have at most {_MAX_NAME_CHARS} characters, got {len(text)}: {text[:32]!r}…")
    return text


def _notice(values):
    """A response of `info` without sound."""
    audio = pb_utils.Tensor("audio", np.zeros(0, dtype=np.int16))
    return pb_utils.InferenceResponse(output_tensors=[audio, _json_tensor(values)])


def _json_tensor(values):
    return pb_utils.Tensor("info", np.array([json.dumps(values, ensure_ascii=False).encode()], dtype=np.object_))


def _code(error):
    return next(name for kind, name in _STATUS.items() if isinstance(error, kind))


def _refuse(sender, error):
    """End a request with an error of the engine's, and say when to try again where that is known."""
    retry = error.retry_after_s if isinstance(error, Overloaded) else None
    _fail(sender, _code(error), str(error), **({} if retry is None else {"retry_after_s": retry}))


def _fail(sender, code, message, **more):
    """End a request with an error, and say in `info` before what it is: on a stream Triton loses an error's code."""
    sender.send(_notice({"error": {"code": code, "message": message, **more}}))
    error = pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
    final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    sender.send(pb_utils.InferenceResponse(error=error), flags=final)
