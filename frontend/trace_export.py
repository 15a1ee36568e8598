"""Sends finished spans to a collector, as OpenTelemetry's own environment variables say; without them, nothing.

The only importer of OpenTelemetry's SDK, and only where traces are wanted. It knows no span.
"""

import os
from collections.abc import Callable

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
    return provider.shutdown
