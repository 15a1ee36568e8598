"""A real run seen through the Prometheus that is shipped: every query of the dashboard, every rule, every name."""

import asyncio
import json
import math
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from websockets.asyncio.client import connect

from tests.stack.serving import Serve, seconds_until
from tests.stack.speaking import CANCELLED, COMPLETE, Heard, ask, infer, listen, speak
from tests.stack.test_tracing import post
from tests.stack.watching import RATE_INTERVAL, SHIPPED, Prometheus, prometheus

DASHBOARD = json.loads((SHIPPED.parent / "grafana" / "dashboards" / "qwen3-tts.json").read_text())
EXPRESSIONS = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())})
# No GPU and no HAProxy here: those queries are only read, not answered.
ELSEWHERE = re.compile(r"\b(nv_gpu|haproxy)_")
LIMIT_S = 40.0
SHORT = "Hello."
LONG = "One two three four five six seven eight nine ten. " * 8


@pytest.fixture(scope="module")
def watching(stack: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    targets = {
        "triton": f"127.0.0.1:{stack.ports.triton_metrics}",
        "frontend": f"127.0.0.1:{stack.ports.frontend_metrics}",
    }
    with prometheus(tmp_path_factory.mktemp("prometheus"), targets) as running:
        yield running


async def use(stack: Serve) -> None:
    """A little of everything that is counted."""
    async with connect(stack.url) as socket:
        assert (await speak(socket, SHORT)).terminal == COMPLETE
        heard = Heard(await ask(socket, LONG))
        await listen(socket, heard, messages=1)
        await socket.send('{"type":"cancel"}')
        await listen(socket, heard)
        assert heard.terminal == CANCELLED
    assert await asyncio.to_thread(post, stack, {}) == 200
    assert await asyncio.to_thread(post, stack, {}, language="klingon") == 400
    assert await asyncio.to_thread(post, stack, {}, input="") == 400
    await infer(f"127.0.0.1:{stack.ports.triton_grpc}", {"text": SHORT})


def answered(watching: Prometheus, expression: str) -> bool:
    values = watching.values(expression.replace("$__rate_interval", RATE_INTERVAL))
    return any(not math.isnan(value) for value in values)


async def test_every_query_of_the_dashboard_shows_a_real_run(stack: Serve, watching: Prometheus) -> None:
    here = [expression for expression in EXPRESSIONS if not ELSEWHERE.search(expression)]
    assert len(here) > 30
    unanswered = here

    async def keep_using() -> None:
        while True:
            await use(stack)

    def all_answered() -> bool:
        nonlocal unanswered
        unanswered = [expression for expression in unanswered if not answered(watching, expression)]
        return not unanswered

    using = asyncio.create_task(keep_using())
    try:
        await seconds_until(lambda: all_answered() or using.done(), LIMIT_S)
    finally:
        using.cancel()
        await asyncio.wait({using})
        assert unanswered == []
    assert using.cancelled(), using.exception()


def test_queries_about_what_is_not_here_can_be_read(watching: Prometheus) -> None:
    elsewhere = [expression for expression in EXPRESSIONS if ELSEWHERE.search(expression)]
    assert {found[1] for found in map(ELSEWHERE.search, elsewhere) if found} == {"nv_gpu", "haproxy"}
    assert [watching.values(expression) for expression in elsewhere] == [[]] * len(elsewhere)


def test_the_shipped_config_finds_the_servers_and_its_rules_work(watching: Prometheus) -> None:
    assert watching.values('up{job=~"triton|frontend"}') == [1, 1]
    written = yaml.safe_load((SHIPPED / "rules.yml").read_text())["groups"]
    loaded = watching.get("/api/v1/rules")["groups"]

    def names(groups: list[Any]) -> list[str]:
        return sorted(rule.get("name") or rule.get("alert") or rule["record"] for g in groups for rule in g["rules"])

    assert names(loaded) == names(written)
    assert {rule["health"] for group in loaded for rule in group["rules"]} == {"ok"}
    alerts = watching.get("/api/v1/alerts")["alerts"]
    firing = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
    # Its own address is another one here than in the image.
    assert firing <= {"TargetDown"}


@pytest.mark.parametrize(("server", "prefix"), [("triton_metrics", "tts_"), ("frontend_metrics", "frontend_")])
def test_what_is_shown_follows_the_conventions_of_prometheus(stack: Serve, server: str, prefix: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{getattr(stack.ports, server)}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    ours = [line for line in lines if re.match(rf"(# (HELP|TYPE) )?{prefix}", line)]
    assert len(ours) > 30
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input="\n".join(ours) + "\n", capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_the_counts_are_those_of_what_was_done(stack: Serve) -> None:
    before = {
        reason: stack.metric("tts_utterances_total", reason=reason) for reason in ("complete", "cancelled", "failed")
    }
    refused, frames = stack.metric("tts_refused_total", error="InvalidRequest"), stack.metric("tts_frames_total")
    ratios = stack.metric("tts_real_time_factor_ratio_count")
    await use(stack)
    await seconds_until(lambda: stack.metric("tts_real_time_factor_ratio_count") == ratios + 3, LIMIT_S)
    after = {reason: stack.metric("tts_utterances_total", reason=reason) for reason in before}
    assert {reason: after[reason] - before[reason] for reason in before} == {"complete": 3, "cancelled": 1, "failed": 0}
    assert stack.metric("tts_refused_total", error="InvalidRequest") == refused + 1
    assert stack.metric("tts_frames_total") > frames
    assert stack.metric("tts_slots") == 16


async def test_refusals_in_a_rush_are_all_counted(stack: Serve) -> None:
    """They are counted on Triton's thread while the delivery thread counts what is spoken."""
    address = f"127.0.0.1:{stack.ports.triton_grpc}"
    before = stack.metric("tts_refused_total", error="UnknownVoice")

    async def refused() -> None:
        for _ in range(25):
            with pytest.raises(Exception, match="nobody"):
                await infer(address, {"text": SHORT, "voice": "nobody"})

    spoken = [infer(address, {"text": SHORT}) for _ in range(4)]
    await asyncio.gather(*(refused() for _ in range(4)), *spoken)
    await seconds_until(lambda: stack.metric("tts_refused_total", error="UnknownVoice") == before + 100, LIMIT_S)
