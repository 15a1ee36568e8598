"""One trace through all layers: client, frontend, Triton, and the engine's log."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.stack.collecting import Collector, Span, collector
from tests.stack.conftest import ENVIRONMENT
from tests.stack.serving import Serve
from tests.stack.speaking import CANCELLED, COMPLETE, Heard, ask, listen, speak

FRONTEND, TRITON = "qwen3-tts-frontend", "qwen3-tts-triton"
CALL = "inference.GRPCInferenceService/ModelStreamInfer"
TEXT = "Hello there."
LONG = "One two three four five six seven eight nine ten. " * 8
LAYERS = 5


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(collected: Collector, greedy_checkpoint: Path) -> Iterator[Serve]:
    """scripts/serve with nothing more than OpenTelemetry's own variables."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.address, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    serve = Serve(["--model", greedy_checkpoint], {**ENVIRONMENT, **variables})
    try:
        serve.wait_for_line("serve: ready")
        yield serve
        assert serve.interrupt() == 0, serve.output
    finally:
        serve.end()


def client(number: int, sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    """The trace and span of a client, and the header that tells of them."""
    trace_id, span_id = f"{0xC0FFEE:026x}{number:06x}", f"{number:016x}"
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"}


def chains(spans: list[Span]) -> list[list[Span]]:
    """Each utterance's spans from the frontend's down, every one the parent of the next."""
    below = {span.parent_id: span for span in spans}
    found = []
    for top in (span for span in spans if span.name == "speak"):
        chain = [top]
        while chain[-1].span_id in below:
            chain.append(below[chain[-1].span_id])
        found.append(chain)
    return found


def whole(utterances: int) -> object:
    return lambda spans: [len(chain) for chain in chains(spans)] == [LAYERS] * utterances


async def test_a_clients_trace_goes_through_every_layer_down_to_the_engines_log(
    traced: Serve, collected: Collector
) -> None:
    trace_id, span_id, headers = client(1)
    async with connect(traced.url, additional_headers=headers) as socket:
        assert (await speak(socket, TEXT)).terminal == COMPLETE
        assert (await speak(socket, TEXT)).terminal == COMPLETE
    for chain in chains(collected.wait_for(trace_id, whole(2))):
        assert [(span.service, span.name) for span in chain] == [
            (FRONTEND, "speak"),
            (FRONTEND, CALL),
            (TRITON, "InferRequest"),
            (TRITON, "qwen3_tts"),
            (TRITON, "compute"),
        ]
        said, call = chain[0], chain[1]
        assert said.parent_id == span_id
        assert said.events == ("first_audio",)
        assert said.attributes["tts.door"] == "websocket"
        assert said.attributes["gen_ai.output.type"] == "speech"
        assert said.attributes["tts.audio_seconds"] > 0
        line = traced.wait_for_line(f"utterance trace={trace_id} parent={call.span_id} ")
        course = r"reason=complete error=null frames=(\d+) queue_s=\S+ first_audio_s=\S+ total_s=\S+ rtf="
        found = re.search(course, line)
        assert found is not None, line
        assert int(found[1]) * 0.08 == pytest.approx(said.attributes["tts.audio_seconds"])
    traced.wait_for_line(f'frontend.session utterance .*reason="complete".*trace="{trace_id}"')


async def test_a_cancelled_utterance_is_traced_to_its_end(traced: Serve, collected: Collector) -> None:
    trace_id, span_id, headers = client(2)
    async with connect(traced.url, additional_headers=headers) as socket:
        heard = Heard(await ask(socket, LONG))
        await listen(socket, heard, messages=1)
        await socket.send('{"type":"cancel"}')
        await listen(socket, heard)
    assert heard.terminal == CANCELLED
    [chain] = chains(collected.wait_for(trace_id, whole(1)))
    assert chain[0].parent_id == span_id
    assert chain[0].events == ("first_audio", "cancel")
    traced.wait_for_line(f"utterance trace={trace_id} .*reason=cancelled")
    assert traced.readiness() == 200


def post(serve: Serve, headers: dict[str, str], **fields: str) -> int:
    """Asks for speech over HTTP; the status of the answer, read to its end."""
    body = json.dumps({"input": TEXT, "response_format": "pcm", **fields}).encode()
    url = f"http://127.0.0.1:{serve.ports.frontend}/v1/audio/speech"
    try:
        asked = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert answer.read()
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_an_http_request_is_traced_as_well(traced: Serve, collected: Collector) -> None:
    trace_id, span_id, headers = client(3)
    assert post(traced, headers) == 200
    [chain] = chains(collected.wait_for(trace_id, whole(1)))
    assert (chain[0].parent_id, chain[0].attributes["tts.door"]) == (span_id, "http")


def test_an_error_is_seen_in_the_trace_and_in_the_log(traced: Serve, collected: Collector) -> None:
    trace_id, _, headers = client(4)
    assert post(traced, headers, language="klingon") == 400
    # Triton loses its span of a stream that ends with an error; those of the model come all the same.
    spans = collected.wait_for(trace_id, lambda spans: {"speak", CALL, "qwen3_tts"} <= {span.name for span in spans})
    [chain] = chains(spans)
    assert [span.name for span in chain[:2]] == ["speak", CALL]
    assert [span.attributes.get("error.type") for span in chain[:2]] == ["InvalidRequest"] * 2
    traced.wait_for_line(f"refused trace={trace_id} .*error=InvalidRequest")


async def test_what_the_client_does_not_sample_and_what_nobody_asked_for_leaves_no_span(
    traced: Serve, collected: Collector
) -> None:
    unsampled, _, headers = client(5, sampled=False)
    async with connect(traced.url, additional_headers=headers) as socket:
        assert (await speak(socket, TEXT)).terminal == COMPLETE
    async with connect(traced.url) as socket:
        assert (await speak(socket, "No trace.")).terminal == COMPLETE
    traced.wait_for_line(f'frontend.session utterance .*trace="{unsampled}"')
    known = {client(number)[0] for number in range(1, 5)}
    started_here = re.findall(r'utterance session=.*trace="([0-9a-f]{32})"', traced.output)
    [own] = [trace_id for trace_id in started_here if trace_id not in known | {unsampled}]
    collected.wait_for(own, whole(1))
    # The model was asked every second whether it is well, by two processes.
    assert {span.trace_id for span in collected.spans} <= known | {own}
