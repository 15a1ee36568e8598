"""What sockets of both protocols report to the metrics."""

import asyncio

import pytest

from frontend.metrics import Metrics
from frontend.readiness import Readiness
from frontend.session import Session
from frontend.session_v2 import SessionV2
from frontend.settings import Settings
from tests.frontend.fakes import FakeSpeech, Script
from tests.frontend.test_v2_writing import Wire, settle


@pytest.mark.parametrize("kind", [Session, SessionV2])
async def test_an_utterance_is_counted_from_its_acceptance_to_its_end(kind: type[Session] | type[SessionV2]) -> None:
    speech, metrics, wire = FakeSpeech(), Metrics(), Wire()
    wire.outgoing = asyncio.Queue()
    speech.script("Long.", Script(hold_after=1))
    session = kind(wire, speech, Readiness(speech, period_s=1, fresh_s=1000), Settings(), "s_1", metrics)
    running = asyncio.create_task(session.run())

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"frontend_{name}", {"door": "websocket"} | labels)

    wire.say(type="speak", text="Long.")
    wire.say(type="speak", text="Two.")
    await settle()
    assert (value("active_utterances"), value("queued_utterances")) == (1, 1)
    wire.say(type="cancel")
    await settle()
    assert value("utterances_total", reason="cancelled") == 2
    assert (value("active_utterances"), value("queued_utterances")) == (0, 0)
    assert value("sent_bytes_total") == 3840
    assert value("cancel_seconds_count") == 2
    assert value("first_audio_seconds_count") == 1
    running.cancel()
    await asyncio.wait({running})
