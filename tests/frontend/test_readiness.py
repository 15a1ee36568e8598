"""Readiness is what a describe request proves, and the health routes say it."""

import asyncio
import json

import pytest

from frontend.errors import InferenceFailed, LoadFailed, NotReady
from frontend.readiness import Readiness
from frontend.synthesis import Description, ModelState, ModelStatus
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import DESCRIPTION, FakeSpeech, Script, audio_of

SILENT = NotReady("no answer")


async def test_readyz_names_the_model_that_answered(server: RunningServer) -> None:
    status, body = await server.get("/readyz")
    assert status == 200
    assert body == {
        "status": "ready",
        "model": "qwen3-tts-fake",
        "sample_rate": 24000,
        "type": "custom_voice",
        "size": "0b6",
        "default_voice": "makima",
    }


async def test_a_demo_checkpoint_is_called_an_untrained_demo(speech: FakeSpeech) -> None:
    speech.description = Description("tiny", "1", True)
    async with running_server(speech) as server:
        _, ready = await server.get("/readyz")
        _, alive = await server.get("/healthz")
    assert ready["model"] == alive["model"] == "tiny (untrained demo)"
    assert ready["notice"].startswith("untrained demo")


async def test_healthz_answers_without_a_model(speech: FakeSpeech) -> None:
    speech.description = SILENT
    async with running_server(speech) as server:
        assert await server.get("/healthz") == (200, {"status": "alive", "sessions": 0})


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (ModelStatus(ModelState.LOADING), "TTS_NOT_READY", "the model is loading"),
        (ModelStatus(ModelState.ABSENT), "TTS_NOT_READY", "the model is not loaded"),
        (ModelStatus(ModelState.READY), "TTS_NOT_READY", "the model does not answer"),
        (NotReady("Triton is away"), "TTS_NOT_READY", "Triton is away"),
        (ModelStatus(ModelState.FAILED, "no file"), "TTS_LOAD_FAILED", "the model could not be loaded"),
    ],
)
async def test_an_unready_model_is_reported_by_readyz_and_by_speak(
    speech: FakeSpeech, status: ModelStatus | NotReady, code: str, reason: str
) -> None:
    speech.description = SILENT
    speech.status = status
    async with running_server(speech) as server, server.client() as client:
        assert await server.get("/readyz") == (503, {"status": "not ready", "reason": reason})
        await client.speak("Hello.")
        assert json.loads(await client.receive()) == {
            "type": "error",
            "code": code,
            "message": reason,
            "recoverable": False,
        }
        assert speech.requests == []
        # The next speak asks anew, so a model that has come back is served at once.
        speech.description = DESCRIPTION
        await client.speak("Hello.")
        assert (await client.utterance())[0] == audio_of("Hello.")
        assert (await server.get("/readyz"))[0] == 200


async def test_an_old_answer_proves_nothing(speech: FakeSpeech) -> None:
    readiness = Readiness(speech, period_s=60, fresh_s=0.5)
    assert await readiness.require() == DESCRIPTION
    speech.description = InferenceFailed("dead")
    assert await readiness.require() == DESCRIPTION
    await asyncio.sleep(0.51)
    with pytest.raises(NotReady, match="does not answer") as failure:
        await readiness.require()
    assert failure.value.detail == "dead"


async def test_many_who_wait_share_one_question(speech: FakeSpeech) -> None:
    speech.description = SILENT
    speech.status = ModelStatus(ModelState.FAILED, "no file")
    readiness = Readiness(speech, period_s=60, fresh_s=2)
    answers = await asyncio.gather(*(readiness.require() for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, LoadFailed) for answer in answers)
    assert speech.descriptions <= 2


async def test_the_model_is_asked_again_and_again_without_a_client(speech: FakeSpeech) -> None:
    async with running_server(speech, ready_period_s=0.02):
        for _ in range(3):
            speech.described.clear()
            await asyncio.wait_for(speech.described.wait(), PATIENCE_S)


async def test_a_defect_in_one_question_is_told_and_does_not_end_the_asking(
    speech: FakeSpeech, caplog: pytest.LogCaptureFixture
) -> None:
    readiness = Readiness(speech, period_s=0.001, fresh_s=10)
    watching = asyncio.create_task(readiness.watch())
    for well in (False, True):
        speech.description = DESCRIPTION if well else ZeroDivisionError("a defect")
        for _ in range(3):  # the third is asked when the second has been answered
            speech.described.clear()
            await asyncio.wait_for(speech.described.wait(), PATIENCE_S)
        assert readiness.well == well
    watching.cancel()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info][:1] == [ZeroDivisionError]


async def test_a_failed_utterance_makes_readiness_ask_at_once(speech: FakeSpeech) -> None:
    speech.script("Fail.", Script(error=InferenceFailed("died")))
    async with running_server(speech, ready_period_s=60, ready_fresh_s=60) as server, server.client() as client:
        await client.speak("Fail.")
        await client.utterance()
        speech.description = SILENT
        assert (await server.get("/readyz"))[0] == 503


async def test_a_question_that_was_cancelled_answers_nobody(speech: FakeSpeech) -> None:
    readiness = Readiness(speech, period_s=60, fresh_s=2)
    cancelled = asyncio.create_task(readiness.require())
    waiting = asyncio.create_task(readiness.require())
    await speech.described.wait()
    cancelled.cancel()
    assert await waiting == DESCRIPTION
