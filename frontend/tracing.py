"""Traces: the place of an utterance in its client's trace, and the spans that this process adds to it.

Context travels as W3C Trace Context and, inside, in the context of asyncio's tasks. As long as nobody has set up an
export (trace_export.py) spans are free and go nowhere, but a client's context still reaches the model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from frontend.errors import SpeechError

HEADERS = ("traceparent", "tracestate")

_PROPAGATOR = TraceContextTextMapPropagator()
_SERVICE, _METHOD = "inference.GRPCInferenceService", "ModelStreamInfer"
_FAILED = frozenset({"failed", "lost"})


def _tracer() -> trace.Tracer:
    return trace.get_tracer("qwen3_tts.frontend")


@contextmanager
def arriving(header: Callable[[str], str | None]) -> Iterator[None]:
    """What is done in this block, and by tasks begun in it, belongs to the trace that a request's headers name.

    header: the value of the header of that name.
    """
    told = {name: value for name in HEADERS if (value := header(name)) is not None}
    token = context.attach(_PROPAGATOR.extract(told))
    try:
        yield
    finally:
        context.detach(token)


class UtteranceSpan:
    """The span of one utterance, from its acceptance to its end. Attributes follow OpenTelemetry's conventions where
    there are any (https://opentelemetry.io/docs/specs/semconv/gen-ai/).
    """

    def __init__(self, door: str) -> None:
        attributes = {"gen_ai.operation.name": "text_to_speech", "gen_ai.output.type": "speech", "tts.door": door}
        self._span = _tracer().start_span("speak", kind=SpanKind.SERVER, attributes=attributes)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Calls made in this block, and by tasks begun in it, are made for this utterance."""
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None where there is no trace."""
        known = self._span.get_span_context()
        return trace.format_trace_id(known.trace_id) if known.is_valid else None

    def happened(self, what: str) -> None:
        """Marks this moment."""
        self._span.add_event(what)

    def failed(self, error: str) -> None:
        """Names the kind of error that ends it."""
        self._span.set_attribute("error.type", error)

    def ended(self, reason: str, audio_s: float, sent_bytes: int) -> None:
        """Ends the span; once."""
        self._span.set_attributes(
            {"gen_ai.response.finish_reasons": [reason], "tts.audio_seconds": audio_s, "tts.sent_bytes": sent_bytes}
        )
        if reason in _FAILED:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


@contextmanager
def calling(server: str) -> Iterator[dict[str, str]]:
    """One call of the model for the utterance of this task: the metadata that carries its trace on.

    There is none for a trace that nobody collects: Triton would collect it nevertheless.
    """
    host, _, port = server.rpartition(":")
    attributes = {"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": _METHOD}
    attributes |= {"server.address": host or server, "server.port": port}
    span = _tracer().start_span(f"{_SERVICE}/{_METHOD}", kind=SpanKind.CLIENT, attributes=attributes)
    try:
        yield _metadata(span)
    except SpeechError as failure:
        span.set_attribute("error.type", type(failure).__name__)
        span.set_status(Status(StatusCode.ERROR, str(failure)))
        raise
    finally:
        span.end()


def _metadata(span: Span) -> dict[str, str]:
    carried: dict[str, str] = {}
    if span.get_span_context().trace_flags.sampled:
        _PROPAGATOR.inject(carried, trace.set_span_in_context(span))
    return carried
