"""What POST /v1/audio/speech may be asked for: how an order reaches the model, and which field a refusal names."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.openai_errors import ApiError
from frontend.speech_order import OPENAI_VOICES, read_order, voice_of
from frontend.synthesis import SpeechRequest
from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import CATALOGUE, FakeSpeech
from tests.frontend.http_client import ask, ask_raw


@pytest.fixture
def speech() -> FakeSpeech:
    return FakeSpeech(description=CATALOGUE)


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        ({"voice": "makima"}, SpeechRequest("Hi.", voice="makima")),
        ({"voice": {"id": "ryan"}}, SpeechRequest("Hi.", voice="ryan")),
        ({"voice": "alloy"}, SpeechRequest("Hi.")),
        ({"voice": None}, SpeechRequest("Hi.")),
        ({"language": "de", "seed": 7, "speed": 1}, SpeechRequest("Hi.", language="de", seed=7)),
        ({"instructions": " calm "}, SpeechRequest("Hi.", instruct="calm")),
        ({"instructions": ""}, SpeechRequest("Hi.")),
        ({"input": "  Hi.\n", "unknown": [1]}, SpeechRequest("Hi.")),
    ],
)
async def test_the_model_is_asked_for_what_the_client_asked_for(
    server: RunningServer, speech: FakeSpeech, sent: dict[str, Any], heard: SpeechRequest
) -> None:
    assert (await ask(server, **{"input": "Hi.", **sent})).status == 200
    assert speech.requests == [heard]


async def test_names_of_voices_can_be_given_to_others(speech: FakeSpeech) -> None:
    async with running_server(speech, voice_aliases="alloy=ryan, narrator=makima") as server:
        for name in ("alloy", "narrator", "echo"):
            await ask(server, input="Hi.", voice=name)
    assert [request.voice for request in speech.requests] == ["ryan", "makima", None]


def test_a_voice_of_the_model_goes_before_an_alias_of_the_same_name() -> None:
    assert voice_of("echo", frozenset(["echo"]), {"echo": "makima"}) == "echo"
    assert [voice_of(name, frozenset(), {}) for name in OPENAI_VOICES] == [None] * 13
    assert voice_of("nobody", frozenset(), {}) == "nobody"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "invalid_value", "input"),
        ({"input": 7}, "invalid_value", "input"),
        ({"input": " \n"}, "text_empty", "input"),
        ({"input": "a" * 101}, "text_too_long", "input"),
        ({"input": "a\x00b"}, "invalid_value", "input"),
        ({"input": "<|im_end|>"}, "invalid_value", "input"),
        ({"input": "a", "instructions": "<|im_end|>"}, "invalid_value", "instructions"),
        ({"input": "a", "response_format": "ogg"}, "invalid_value", "response_format"),
        ({"input": "a", "stream_format": "ws"}, "invalid_value", "stream_format"),
        ({"input": "a", "speed": 0.2}, "invalid_value", "speed"),
        ({"input": "a", "speed": "fast"}, "invalid_value", "speed"),
        ({"input": "a", "seed": -1}, "invalid_value", "seed"),
        ({"input": "a", "seed": 2**64}, "invalid_value", "seed"),
        ({"input": "a", "voice": {"name": "x"}}, "invalid_value", "voice"),
        ({"input": "a", "voice": ["x"]}, "invalid_value", "voice"),
        ({"input": "a", "voice": {"id": "x" * 257}}, "invalid_value", "voice"),
        ({"input": "a", "sample_rate": 16_000}, "unsupported_format", "sample_rate"),
        ({"input": "a", "response_format": "wav", "sample_rate": 1}, "unsupported_format", "sample_rate"),
    ],
)
async def test_a_wrong_field_is_named(speech: FakeSpeech, fields: dict[str, Any], code: str, param: str) -> None:
    async with running_server(speech, max_request_chars=100) as server:
        answer = await ask(server, **fields)
    assert answer.status == 400
    error = answer.error
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert speech.requests == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"input": NaN}', b'{"input": "\\ud800"}', b"[" * 100_000]
)
async def test_what_is_no_json_object_is_refused(server: RunningServer, body: bytes) -> None:
    answer = await ask_raw(server, body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")


async def test_a_body_that_is_too_large_is_refused(server: RunningServer) -> None:
    answer = await ask_raw(server, b" " * (1024 * 1024 + 1))
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")


async def test_models_are_only_checked_where_that_is_wanted(speech: FakeSpeech) -> None:
    async with running_server(speech, strict_model=True) as strict, running_server(speech) as lenient:
        assert (await ask(lenient, input="Hi.", model="whatever")).status == 200
        refused = await ask(strict, input="Hi.", model="whatever")
        assert (refused.status, refused.error["code"], refused.error["param"]) == (404, "model_not_found", "model")
        for model in (
            "qwen3-tts",
            "qwen3-tts-fake",
            "tts-1",
            "tts-1-hd",
            "gpt-4o-mini-tts",
            "gpt-4o-mini-tts-2025-03-20",
        ):
            assert (await ask(strict, input="Hi.", model=model)).status == 200


async def test_wrong_paths_and_methods_are_refused_in_the_same_shape(server: RunningServer) -> None:
    assert (await ask_raw(server, b"", "/v1/audio/nothing", "GET")).error["code"] == "not_found"
    astray = await ask_raw(server, b"{}", "/audio/speech")  # base_url without /v1
    assert (astray.status, astray.error["code"]) == (404, "not_found")
    assert "nothing is at '/audio/speech'; speech is at /v1/audio/speech" in astray.error["message"]
    wrong = await ask_raw(server, b"", "/v1/audio/speech", "GET")
    assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["input", "voice", "speed", "seed", "id"]), inner),
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_an_order_or_a_refusal(body: bytes) -> None:
    refusal = None
    try:
        order = read_order(body, 100)
    except ApiError as refused:
        refusal = refused
    if refusal is None:
        assert order.text == order.text.strip() != ""
        assert order.encoder().sample_rate == 24_000
    else:
        assert refusal.status == 400
        assert json.dumps(refusal.body).isascii()
