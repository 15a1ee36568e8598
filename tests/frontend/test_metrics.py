"""What the frontend counts, read the way Prometheus reads it."""

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from commands.ports import free_ports
from frontend import errors
from frontend.app import create_app
from frontend.metrics import Metrics
from frontend.registry import SessionRegistry
from frontend.server import Drain, open_listener, serve
from frontend.settings import Settings
from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import FakeSpeech, Script
from tests.frontend.http_client import ask, asking


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def server(speech: FakeSpeech, metrics: Metrics) -> AsyncIterator[RunningServer]:
    settings = Settings(host="127.0.0.1", port=0)
    listener = open_listener(settings.host, 0)
    host, port = listener.getsockname()
    registry = SessionRegistry()
    drain = Drain(registry, settings.drain_s)
    app = create_app(settings, speech, registry, metrics=metrics)
    serving = asyncio.create_task(serve(app, settings, listener, drain))
    yield RunningServer(speech, registry, drain, f"{host}:{port}", serving)
    drain.signal()
    drain.signal()
    await serving


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"frontend_{name}", {"door": "http", **labels}) or 0.0


async def test_an_utterance_is_counted_with_its_reason_bytes_and_delay(server: RunningServer, metrics: Metrics) -> None:
    answer = await ask(server, input="Hello.", response_format="pcm")
    assert value(metrics, "utterances_total", reason="complete") == 1
    assert value(metrics, "sent_bytes_total") == len(answer.body)
    assert value(metrics, "first_audio_seconds_count") == 1
    assert 0 < value(metrics, "first_audio_seconds_sum") < 5
    assert value(metrics, "send_blocked_seconds_total") >= 0
    assert value(metrics, "active_utterances") == value(metrics, "queued_utterances") == 0


async def test_gauges_follow_an_utterance_through_its_life(
    server: RunningServer, speech: FakeSpeech, metrics: Metrics
) -> None:
    waiting = speech.script("Waits.", Script(hold_after=0))
    speaking = speech.script("Speaks.", Script(hold_after=1))
    bodies = [json.dumps({"input": text, "response_format": "pcm"}).encode() for text in ("Waits.", "Speaks.")]
    async with asking(server, bodies[0]), asking(server, bodies[1]):
        await waiting.held.wait()
        await speaking.held.wait()
        assert value(metrics, "queued_utterances") == 1
        assert value(metrics, "active_utterances") == 1
    await server.all_closed()
    assert value(metrics, "queued_utterances") == value(metrics, "active_utterances") == 0
    assert value(metrics, "utterances_total", reason="cancelled") == 2
    assert value(metrics, "cancel_seconds_count") == 2


async def test_refusals_are_counted_by_code_and_failures_by_reason(
    server: RunningServer, speech: FakeSpeech, metrics: Metrics
) -> None:
    speech.script("Fails.", Script(frames=2, error=errors.BackendDied("gone")))
    assert value(metrics, "errors_total", error="BackendDied") == 0
    await ask(server, input="")
    await ask(server, input="Hi.", voice="nobody")
    await ask(server, input="Fails.", response_format="pcm")
    assert value(metrics, "refusals_total", code="text_empty") == 1
    assert value(metrics, "refusals_total", code="voice_not_found") == 1
    assert value(metrics, "utterances_total", reason="refused") == 1
    assert value(metrics, "utterances_total", reason="failed") == 1
    assert value(metrics, "errors_total", error="BackendDied") == 1
    assert value(metrics, "errors_total", error="UnknownVoice") == 1


async def test_who_is_sent_away_at_the_door_is_counted(server: RunningServer, metrics: Metrics) -> None:
    with pytest.raises(InvalidStatus):
        await connect(f"ws://{server.address}/api/v1/speak", origin=Origin("https://elsewhere.example"))
    assert value(metrics, "refusals_total", door="websocket", code="forbidden_origin") == 1


async def test_open_sockets_and_readiness_are_shown(server: RunningServer, metrics: Metrics) -> None:
    async with server.client() as client:
        await client.speak("Hello.")
        audio, _ = await client.utterance()
        assert value(metrics, "connections", door="websocket") == 1
        assert metrics.registry.get_sample_value("frontend_ready") == 1
        assert value(metrics, "audio_seconds_total", door="websocket") == pytest.approx(len(audio) / 48_000)
    await server.all_closed()
    assert value(metrics, "connections", door="websocket") == 0


def test_sound_that_comes_when_the_listener_has_none_left_is_an_underrun() -> None:
    metrics = Metrics()
    whole, live = metrics.utterance("websocket"), metrics.utterance("http")
    for seconds in (0.0, 0.001, 10.0, 0.08):
        whole.made(seconds)
        live.made(seconds, in_time=False)
        time.sleep(0.005)  # what was made is played meanwhile, unless it is longer
    assert value(metrics, "underruns_total", door="websocket") == 1
    assert value(metrics, "underruns_total", door="http") == 0
    assert whole.audio_s == pytest.approx(10.081)


async def test_prometheus_reads_them_from_a_port_of_their_own(server: RunningServer, metrics: Metrics) -> None:
    await ask(server, input="Hello.")
    [port] = free_ports(1)
    stop = metrics.serve("127.0.0.1", port)
    try:
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        await asyncio.to_thread(stop)
    assert 'frontend_utterances_total{door="http",reason="complete"} 1.0' in text
    assert "# HELP frontend_first_audio_seconds From request to first audio" in text
    assert (await ask(server, input="Hello.")).status == 200
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics")


def test_each_step_of_an_utterance_counts_once() -> None:
    metrics = Metrics()
    tally = metrics.utterance("http")
    for _ in range(2):
        tally.heard()
        tally.cancelling()
    tally.ended("cancelled")
    tally.ended("failed")
    tally.heard()
    assert value(metrics, "first_audio_seconds_count") == value(metrics, "cancel_seconds_count") == 1
    assert value(metrics, "utterances_total", reason="cancelled") == 1
    assert value(metrics, "active_utterances") == value(metrics, "queued_utterances") == 0
