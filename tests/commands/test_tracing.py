"""Which options tritonserver gets for traces."""

import pytest

from commands.tracing import FORWARDED, trace_options

EXPORT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize("environment", [{}, {EXPORT: ""}, {EXPORT: "http://here:4318", "OTEL_SDK_DISABLED": "true"}])
def test_nothing_is_exported_unless_it_is_asked_for(environment: dict[str, str]) -> None:
    assert trace_options(environment) == [FORWARDED]


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({EXPORT: "http://here:4318"}, "http://here:4318/v1/traces"),
        ({EXPORT: "http://here:4318/"}, "http://here:4318/v1/traces"),
        ({EXPORT: "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://here/own"}, "http://here/own"),
    ],
)
def test_spans_go_where_the_standard_variables_say(environment: dict[str, str], url: str) -> None:
    options = trace_options(environment)
    assert f"--trace-config=opentelemetry,url={url}" in options
    assert "--trace-config=mode=opentelemetry" in options


def test_the_delay_of_a_batch_is_the_standard_variable_too() -> None:
    options = trace_options({EXPORT: "http://here", "OTEL_BSP_SCHEDULE_DELAY": "250"})
    assert "--trace-config=opentelemetry,bsp_schedule_delay=250" in options
