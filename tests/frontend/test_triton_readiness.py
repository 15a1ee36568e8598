"""What Triton says of the model: its description, its state, and that nobody answers."""

import asyncio

import pytest

from frontend.errors import (
    NotReady,
)
from frontend.synthesis import ModelState, ModelStatus, SpeechRequest
from frontend.triton import TritonSpeech
from tests.frontend.triton_double import (
    LIMITS,
    Stream,
    TritonDouble,
    fall_silent,
    serving,
    spoken,
)

REQUEST = SpeechRequest("Hello.")


async def test_describe_gives_the_models_own_words(double: TritonDouble, triton: TritonSpeech) -> None:
    description = await triton.describe()
    assert (description.model, description.instance, description.untrained_demo) == ("tiny", "one", True)
    assert description.label == "tiny (untrained demo)"
    assert description.details == double.description


async def test_describe_does_not_wait_for_ever(double: TritonDouble) -> None:
    double.description = fall_silent
    async with serving(double) as address:
        speech = TritonSpeech(address, "qwen3_tts", **LIMITS | {"describe_timeout_s": 0.2})
        with pytest.raises(NotReady, match=r"within 0\.2 s"):
            await speech.describe()
        await speech.close()


async def test_a_refused_describe_is_not_ready(double: TritonDouble, triton: TritonSpeech) -> None:
    async def refuse(stream: Stream) -> None:
        await stream.refuse("unknown model")

    double.description = refuse
    with pytest.raises(NotReady, match="unknown model"):
        await triton.describe()


@pytest.mark.parametrize(
    ("index", "status"),
    [
        ([], ModelStatus(ModelState.ABSENT)),
        ([("other", "READY", "")], ModelStatus(ModelState.ABSENT)),
        ([("qwen3_tts", "", "")], ModelStatus(ModelState.ABSENT)),
        ([("qwen3_tts", "LOADING", "")], ModelStatus(ModelState.LOADING)),
        ([("qwen3_tts", "READY", "")], ModelStatus(ModelState.READY)),
        ([("qwen3_tts", "UNAVAILABLE", "unloaded")], ModelStatus(ModelState.ABSENT)),
        ([("qwen3_tts", "UNAVAILABLE", "no file")], ModelStatus(ModelState.FAILED, "no file")),
    ],
)
async def test_the_state_of_the_model_is_read_from_the_repository_index(
    double: TritonDouble, triton: TritonSpeech, index: list[tuple[str, str, str]], status: ModelStatus
) -> None:
    double.index = index
    assert await triton.model_status() == status


async def test_a_server_that_is_away_is_not_ready_and_one_that_comes_back_is_used(double: TritonDouble) -> None:
    async with serving(double) as address:
        speech = TritonSpeech(address, "qwen3_tts", **LIMITS)
        assert (await speech.describe()).instance == "one"
    with pytest.raises(NotReady):
        await spoken(speech, REQUEST)
    with pytest.raises(NotReady, match="does not answer"):
        await speech.model_status()
    async with serving(double, address), asyncio.timeout(10):
        while True:
            try:
                assert (await speech.describe()).instance == "one"
                break
            except NotReady:
                await asyncio.sleep(0.05)
    await speech.close()
