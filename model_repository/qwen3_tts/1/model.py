"""The Triton side of the model: tensors to `Speak`, sound to response senders, errors to status codes, counts to
metrics. The only file that knows Triton's Python backend; everything it serves is made by tts_engine.
"""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from tts_engine import (
    Delivery,
    Engine,
    EngineConfig,
    EngineFailed,
    InvalidRequest,
    LoadError,
    Overloaded,
    Speak,
    TtsError,
    UnknownVoice,
    Unsupported,
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
INPUTS = (*_TEXTS, *_NUMBERS, *_ARRAYS, "describe")
OUTPUTS = ("audio", "info")

# Names of pb_utils.TritonError's codes: Triton fills pb_utils in only after it has imported this file.
_STATUS = {
    InvalidRequest: "INVALID_ARG",
    Unsupported: "UNSUPPORTED",
    UnknownVoice: "NOT_FOUND",
    Overloaded: "UNAVAILABLE",
    EngineFailed: "INTERNAL",
}
_FIRST_AUDIO_BUCKETS = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0]


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
            )
        except LoadError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self._delivery = Delivery(self._engine.cancel, self._engine.fail, _Metrics(self._engine))
        self._engine.start()
        self._delivery.start()

    def execute(self, requests):
        """Start each request and return at once; responses come from the delivery thread."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if _is_description(request):
                    sender.send(_notice(self._engine.describe()), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                    continue
                speak = _speak(request)
                if self._continues(speak, sender):
                    continue
                stream = _LiveStream(sender) if speak.is_live else _Stream(sender)
                self._delivery.open(stream, lambda sink, speak=speak: self._engine.submit(speak, sink))
            except TtsError as error:
                _fail(sender, _code(error), str(error))

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
    """A response sender as the delivery thread sees it."""

    def __init__(self, sender):
        self._sender = sender

    def accept(self):
        """Nothing to say: the first sound says it soon enough."""

    def send(self, pcm, segment):
        tensors = [pb_utils.Tensor("audio", pcm)]
        if segment is not None:
            tensors.append(_json_tensor({"segment": asdict(segment)}))
        self._sender.send(pb_utils.InferenceResponse(output_tensors=tensors))

    def finish(self, pcm, outcome):
        if outcome.error is not None:
            _fail(self._sender, _code(outcome.error), str(outcome.error))
        elif outcome.reason == "cancelled":
            _fail(self._sender, "CANCELLED", "the utterance was cancelled")
        else:
            tensors = [pb_utils.Tensor("audio", pcm), _json_tensor(outcome.info)]
            response = pb_utils.InferenceResponse(output_tensors=tensors)
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self):
        return self._sender.is_cancelled()


class _LiveStream(_Stream):
    """One whose client sends no more text before it knows that the utterance was taken in."""

    def accept(self):
        self._sender.send(_notice({"accepted": True}))


class _Metrics:
    """The engine's counts as Prometheus metrics on Triton's metrics port."""

    def __init__(self, engine):
        self._statistics = engine.statistics
        gauge, counter = pb_utils.MetricFamily.GAUGE, pb_utils.MetricFamily.COUNTER
        # A family must outlive its metrics, so both are kept.
        self._families = []
        self._gauges = {
            "active": self._metric("tts_active_utterances", "Utterances in a slot", gauge),
            "waiting": self._metric("tts_waiting_utterances", "Utterances waiting for a slot", gauge),
        }
        self._counters = {
            "frames": self._metric("tts_frames_total", "Frames of 80 ms made", counter),
            "utterances": self._metric("tts_utterances_total", "Utterances ended, for whatever reason", counter),
            "cancelled": self._metric("tts_cancelled_total", "Utterances cancelled", counter),
            "failed": self._metric("tts_failed_total", "Utterances failed", counter),
        }
        self._first_audio = self._metric(
            "tts_time_to_first_audio_seconds",
            "From the request's arrival in the model to its first sound leaving it",
            pb_utils.MetricFamily.HISTOGRAM,
            buckets=_FIRST_AUDIO_BUCKETS,
        )
        self._shown = dict.fromkeys((*self._gauges, *self._counters), 0)

    def _metric(self, name, description, kind, **options):
        family = pb_utils.MetricFamily(name=name, description=description, kind=kind)
        self._families.append(family)
        return family.Metric(labels={"model": "qwen3_tts"}, **options)

    def first_audio(self, seconds):
        self._first_audio.observe(seconds)

    def refresh(self):
        for name, metric in self._gauges.items():
            value = getattr(self._statistics, name)
            if value != self._shown[name]:
                metric.set(value)
                self._shown[name] = value
        for name, metric in self._counters.items():
            value = getattr(self._statistics, name)
            if value != self._shown[name]:
                metric.increment(value - self._shown[name])
                self._shown[name] = value


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


def _is_description(request):
    tensor = pb_utils.get_input_tensor_by_name(request, "describe")
    return tensor is not None and bool(tensor.as_numpy().reshape(-1)[0])


def _speak(request):
    """Raises InvalidRequest for a missing text and for text that is not UTF-8."""
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
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not valid UTF-8: {error}") from error


def _notice(values):
    """A response of `info` without sound."""
    audio = pb_utils.Tensor("audio", np.zeros(0, dtype=np.int16))
    return pb_utils.InferenceResponse(output_tensors=[audio, _json_tensor(values)])


def _json_tensor(values):
    return pb_utils.Tensor("info", np.array([json.dumps(values, ensure_ascii=False).encode()], dtype=np.object_))


def _code(error):
    return next(name for kind, name in _STATUS.items() if isinstance(error, kind))


def _fail(sender, code, message):
    """End a request with an error, and say in `info` before what it is: on a stream Triton loses an error's code."""
    sender.send(_notice({"error": {"code": code, "message": message}}))
    error = pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
    final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    sender.send(pb_utils.InferenceResponse(error=error), flags=final)
