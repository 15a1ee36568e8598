"""How a client's trace context travels through this process while nobody exports spans."""

import asyncio

from frontend import tracing
from frontend.tracing import UtteranceSpan, arriving, calling

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=value"}


def test_a_clients_context_reaches_the_model_as_it_came() -> None:
    with arriving(HEADERS.get):
        utterance = UtteranceSpan("http")
    assert utterance.trace_id == TRACE
    with utterance.current(), calling("triton:8001") as metadata:
        assert metadata == HEADERS


def test_a_trace_that_is_not_sampled_is_known_here_and_goes_no_further() -> None:
    with arriving({"traceparent": HEADERS["traceparent"][:-1] + "0"}.get):
        utterance = UtteranceSpan("http")
    assert utterance.trace_id == TRACE
    with utterance.current(), calling("triton:8001") as metadata:
        assert metadata == {}


def test_without_a_context_or_with_a_broken_one_there_is_no_trace() -> None:
    for headers in ({}, {"traceparent": "nonsense"}, {"tracestate": "vendor=value"}):
        with arriving(headers.get):
            utterance = UtteranceSpan("websocket")
        assert utterance.trace_id is None
        with utterance.current(), calling("triton:8001") as metadata:
            assert metadata == {}


async def test_each_task_calls_for_the_utterance_it_was_begun_for() -> None:
    async def called() -> str:
        await asyncio.sleep(0)
        with calling("triton:8001") as metadata:
            return metadata["traceparent"]

    tasks = []
    for number in range(1, 4):
        header = f"00-{number:032x}-{PARENT}-01"
        with arriving({"traceparent": header}.get):
            utterance = UtteranceSpan("websocket")
        with utterance.current():
            tasks.append((header, asyncio.create_task(called())))
    assert [header for header, _ in tasks] == [await task for _, task in tasks]


def test_the_headers_are_the_two_of_the_standard() -> None:
    assert set(HEADERS) == set(tracing.HEADERS)
