"""The options that make tritonserver export its spans, from the variables every OpenTelemetry program reads.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables. Starts nothing.
"""

from collections.abc import Mapping

SERVICE = "qwen3-tts-triton"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
DELAY = "OTEL_BSP_SCHEDULE_DELAY"
DISABLED = "OTEL_SDK_DISABLED"

# So that the engine's log can name the trace, whether spans are exported or not.
FORWARDED = "--grpc-header-forward-pattern=(?i)(traceparent|tracestate)"


def trace_options(environment: Mapping[str, str]) -> list[str]:
    """Options of tritonserver: none that exports unless the environment names an OTLP endpoint."""
    url = _traces_url(environment)
    if url is None or environment.get(DISABLED, "").lower() == "true":
        return [FORWARDED]
    settings = [
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        # No request of its own accord: health checks come every second. One that carries a trace is always traced.
        "rate=0",
        f"opentelemetry,url={url}",
        f"opentelemetry,resource=service.name={SERVICE}",
    ]
    if environment.get(DELAY):
        settings.append(f"opentelemetry,bsp_schedule_delay={environment[DELAY]}")
    return [FORWARDED, *(f"--trace-config={setting}" for setting in settings)]


def _traces_url(environment: Mapping[str, str]) -> str | None:
    """Where spans go over HTTP; the path is part of the one variable and implied by the other."""
    if environment.get(TRACES_ENDPOINT):
        return environment[TRACES_ENDPOINT]
    base = environment.get(ENDPOINT)
    return f"{base.rstrip('/')}/v1/traces" if base else None
