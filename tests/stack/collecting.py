"""A collector of spans over OTLP/HTTP, as any backend of OpenTelemetry is one. It takes protobuf and JSON.

The frontend's SDK sends the first, Triton's exporter the second, in which ids are hexadecimal.
"""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """What a test asks of a span; ids in hexadecimal, no parent is empty."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    events: tuple[str, ...]
    attributes: dict[str, Any]


class Collector:
    """Spans as they come in; waiting for some is an event."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._spans: list[Span] = []
        self._changed = threading.Condition()

    def add(self, spans: list[Span]) -> None:
        with self._changed:
            self._spans += spans
            self._changed.notify_all()

    @property
    def spans(self) -> list[Span]:
        with self._changed:
            return list(self._spans)

    def wait_for(self, trace_id: str, enough: Callable[[list[Span]], bool], timeout: float = 30) -> list[Span]:
        """The spans of a trace once there are enough."""

        def found() -> list[Span]:
            return [span for span in self._spans if span.trace_id == trace_id]

        with self._changed:
            came = self._changed.wait_for(lambda: enough(found()), timeout)
            assert came, f"within {timeout:g} s only {[(span.service, span.name) for span in found()]}"
            return found()


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on this machine."""

    class Intake(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collected.add(_from_json(body) if "json" in self.headers["Content-Type"] else _from_protobuf(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Intake)
    collected = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collected
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _from_protobuf(body: bytes) -> list[Span]:
    message = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name"),
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            tuple(event.name for event in span.events),
            {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes},
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _from_json(body: bytes) -> list[Span]:
    return [
        Span(
            next(a["value"]["stringValue"] for a in resource["resource"]["attributes"] if a["key"] == "service.name"),
            span["name"],
            span["traceId"],
            span["spanId"],
            span.get("parentSpanId", ""),
            tuple(event["name"] for event in span.get("events", ())),
            {a["key"]: next(iter(a["value"].values())) for a in span.get("attributes", ())},
        )
        for resource in json.loads(body)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
