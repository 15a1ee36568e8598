"""One trace through all layers: client, frontend, Triton, and the engine's log."""

import asyncio
import contextlib
import json
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.documents import SHELL, all_blocks
from tests.stack.collecting import Collector, Span, collector
from tests.stack.conftest import ENVIRONMENT
from tests.stack.serving import Serve
from tests.stack.speaking import CANCELLED, COMPLETE, Heard, ask, listen, speak

FRONTEND, TRITON = "qwen3-tts-frontend", "qwen3-tts-triton"
CALL = "inference.GRPCInferenceService/ModelStreamInfer"
TEXT = "Hello there."
LONG = "One two three four five six seven eight nine ten. " * 8
LAYERS = 5
ATTEMPTS, SPANS_S = 4, 5.0


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(collected: Collector, greedy_checkpoint: Path) -> Iterator[Serve]:
    """scripts/serve with nothing more than the documents say, but for sending sooner."""
    [block] = [block for block in all_blocks() if block.heading == "Traces" and block.language in SHELL]
    documented = re.fullmatch(r"(\w+)=http://localhost:4318 scripts/serve\n", block.source)
    assert documented is not None, block.source
    variables = {documented[1]: collected.address, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    serve = Serve(["--model", greedy_checkpoint], {**ENVIRONMENT, **variables})
    try:
        serve.wait_for_line("serve: ready")
        yield serve
        assert serve.interrupt() == 0, serve.output
    finally:
        serve.end()


@dataclass(frozen=True)
class Client:
    """A client's trace and span, and the header that tells of them."""

    trace_id: str
    span_id: str
    headers: dict[str, str]


def client(sampled: bool = True) -> Client:
    """A client of a trace of its own."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return Client(trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"})


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


async def traced_whole(
    collected: Collector, act: Callable[[Client], Awaitable[None]], utterances: int = 1
) -> tuple[Client, list[list[Span]]]:
    """Lets clients act until all spans of one have come: Triton loses those of one utterance in some hundreds."""
    for _ in range(ATTEMPTS):
        acting = client()
        await act(acting)
        at_the_frontend = await asyncio.to_thread(
            collected.wait_for, acting.trace_id, lambda spans: len(chains(spans)) == utterances
        )
        assert {span.service for span in at_the_frontend} >= {FRONTEND}
        with contextlib.suppress(AssertionError):
            spans = await asyncio.to_thread(collected.wait_for, acting.trace_id, whole(utterances), SPANS_S)
            return acting, chains(spans)
    raise AssertionError(f"{ATTEMPTS} times some of Triton's spans were missing")


def whole(utterances: int) -> Callable[[list[Span]], bool]:
    return lambda spans: [len(chain) for chain in chains(spans)] == [LAYERS] * utterances


async def test_a_clients_trace_goes_through_every_layer_down_to_the_engines_log(
    traced: Serve, collected: Collector
) -> None:
    async def act(acting: Client) -> None:
        async with connect(traced.url, additional_headers=acting.headers) as socket:
            assert (await speak(socket, TEXT)).terminal == COMPLETE
            assert (await speak(socket, TEXT)).terminal == COMPLETE

    acting, both = await traced_whole(collected, act, utterances=2)
    trace_id = acting.trace_id
    for chain in both:
        assert [(span.service, span.name) for span in chain] == [
            (FRONTEND, "speak"),
            (FRONTEND, CALL),
            (TRITON, "InferRequest"),
            (TRITON, "qwen3_tts"),
            (TRITON, "compute"),
        ]
        said, call = chain[0], chain[1]
        assert said.parent_id == acting.span_id
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
    async def act(acting: Client) -> None:
        async with connect(traced.url, additional_headers=acting.headers) as socket:
            heard = Heard(await ask(socket, LONG))
            await listen(socket, heard, messages=1)
            await socket.send('{"type":"cancel"}')
            await listen(socket, heard)
        assert heard.terminal == CANCELLED

    acting, [chain] = await traced_whole(collected, act)
    assert chain[0].parent_id == acting.span_id
    assert chain[0].events == ("first_audio", "cancel")
    traced.wait_for_line(f"utterance trace={acting.trace_id} .*reason=cancelled")
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


async def test_an_http_request_is_traced_as_well(traced: Serve, collected: Collector) -> None:
    async def act(acting: Client) -> None:
        assert await asyncio.to_thread(post, traced, acting.headers) == 200

    acting, [chain] = await traced_whole(collected, act)
    assert (chain[0].parent_id, chain[0].attributes["tts.door"]) == (acting.span_id, "http")


def test_an_error_is_seen_in_the_trace_and_in_the_log(traced: Serve, collected: Collector) -> None:
    """By the frontend's spans: Triton loses its own of a stream that ends with an error."""
    acting = client()
    assert post(traced, acting.headers, language="klingon") == 400
    spans = collected.wait_for(acting.trace_id, lambda spans: {"speak", CALL} <= {span.name for span in spans})
    [chain] = chains(spans)
    assert [span.name for span in chain[:2]] == ["speak", CALL]
    assert [span.attributes.get("error.type") for span in chain[:2]] == ["InvalidRequest"] * 2
    traced.wait_for_line(f"refused trace={acting.trace_id} .*error=InvalidRequest")


async def test_what_the_client_does_not_sample_and_what_nobody_asked_for_leaves_no_span(
    traced: Serve, collected: Collector
) -> None:
    unsampled = client(sampled=False)
    async with connect(traced.url, additional_headers=unsampled.headers) as socket:
        assert (await speak(socket, TEXT)).terminal == COMPLETE
    traced.wait_for_line(f'frontend.session utterance .*trace="{unsampled.trace_id}"')
    before = traced.lines_so_far
    async with connect(traced.url) as socket:
        assert (await speak(socket, TEXT)).terminal == COMPLETE
    line = await asyncio.to_thread(traced.wait_for_line, "frontend.session utterance", after=before)
    begun_here = re.search('trace="([0-9a-f]{32})"', line)
    assert begun_here is not None, line
    await asyncio.to_thread(collected.wait_for, begun_here[1], lambda spans: bool(chains(spans)))
    assert unsampled.trace_id not in {span.trace_id for span in collected.spans}
    # The model was asked every second whether it is well, by two processes.
    named = set(re.findall("[0-9a-f]{32}", traced.output))
    assert {span.trace_id for span in collected.spans} <= named
