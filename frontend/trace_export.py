"""Sends finished spans to a collector, as OpenTelemetry's own environment variables say; without them, nothing.

The only importer of OpenTelemetry's SDK, and only where traces are wanted. It knows no span.
"""

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
SERVICE = "qwen3-tts-frontend"
WANTED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NAMED_BY = "OTEL_SERVICE_NAME"


def start_export() -> Callable[[], None] | None:
    """Exports over OTLP/HTTP from now on; what is returned sends the rest and ends it. None when it is not wanted.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables: sampling, batching, headers,
    certificates and OTEL_SDK_DISABLED are read by the SDK itself.
    """
    if not any(os.environ.get(name) for name in WANTED_BY):
        return None
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if os.environ.get(NAMED_BY) else {SERVICE_NAME: SERVICE}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return lambda: _end(provider.shutdown)


def _end(shutdown: Callable[[], None]) -> None:
    """Sends what is left, within a limit that the SDK has not: a dead collector must not hold up our own end."""
    ending = threading.Thread(target=shutdown, name="last spans", daemon=True)
    ending.start()
    ending.join(PATIENCE_S)
    if ending.is_alive():
        log.warning("the last spans were not taken within %g s", PATIENCE_S)
