"""Parsing never fails in another way than InvalidMessage, and whatever it says can be sent."""

import json
import re
import timeit
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frontend.errors import BackendDied, InvalidRequest, LoadFailed, NotReady, SpeechError, Stalled, UnknownVoice
from frontend.messages import (
    Cancel,
    InvalidMessage,
    Message,
    Speak,
    Stop,
    audio_end,
    code_of,
    error,
    parse,
    unspeakable,
)

LIMIT = 200

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["type", "text", "voice", "language", "request_id", "protocol", "x"])
types = st.sampled_from(["speak", "cancel", "stop", "start", "text", "flush", "sing"])
messages = st.dictionaries(fields, json_values | types).map(json.dumps)
speaks = st.fixed_dictionaries({"type": st.just("speak"), "text": st.text(max_size=300)}, optional={"voice": st.text()})


def outcome(raw: str) -> Message | InvalidMessage:
    try:
        return parse(raw, LIMIT)
    except InvalidMessage as invalid:
        return invalid


@given(st.text() | messages | speaks.map(json.dumps))
@example("[" * 60_000)
@example('{"type":"\\ud800"}')
@example('{"type":"speak","text":"a","request_id":"\\udfff"}')
@example('{"type":"speak","text":"a","x":NaN}')
@example("1" * 5000)
def test_whatever_comes_is_a_message_or_an_answer_that_can_be_sent(raw: str) -> None:
    result = outcome(raw)
    if isinstance(result, InvalidMessage):
        json.loads(error("INVALID_MESSAGE", str(result), result.request_id).encode())
    elif isinstance(result, Speak):
        assert 0 < len(result.text) <= LIMIT
        assert result.text == unicodedata.normalize("NFC", result.text).strip()
        assert "<|" not in result.text or "|>" not in result.text.split("<|", 1)[1]
        for value in (result.text, result.voice, result.language, result.request_id):
            (value or "").encode()
        audio_end(False, result.request_id).encode()
    else:
        assert isinstance(result, Cancel | Stop)


def test_a_number_that_nobody_could_mean_is_refused_in_our_own_words() -> None:
    with pytest.raises(InvalidMessage, match=r"a number has 5000 digits, the limit is 400$"):
        parse('{"type":"speak","text":"a","seed":' + "1" * 5000 + "}", LIMIT)


@given(st.text(st.sampled_from("<|>a\t\r\n\x00\x0b\x1f\x20\x7e\x7f\x9f\xa0\u2028"), max_size=12))
def test_what_is_unspeakable_is_every_control_character_and_every_whole_model_token(text: str) -> None:
    problem = unspeakable(text)
    controls = [place for place, char in enumerate(text) if unicodedata.category(char) == "Cc" and char not in "\t\r\n"]
    token = re.search(r"<\|.*?\|>", text, re.DOTALL)
    if controls:
        assert problem == f"text has the control character U+{ord(text[controls[0]]):04X} at position {controls[0]}"
    elif token:
        assert problem == f"text has the model token {token.group()!a} at position {token.start()}"
    else:
        assert problem is None


def test_a_long_text_that_begins_many_tokens_and_ends_none_takes_no_longer_than_another() -> None:
    def best_s(text: str) -> float:
        return min(timeit.repeat(lambda: unspeakable(text), number=1, repeat=5))

    assert best_s("<|" * 100_000) < 100 * best_s("no" * 100_000)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"type":"speak","text":"Hi"}', Speak("Hi")),
        ('{"type":"speak","text":" Hi\\n","voice":null}', Speak("Hi")),
        ('{"type":"speak","text":"a\\tb\\nc"}', Speak("a\tb\nc")),
        (
            '{"type":"speak","text":"Hi","voice":"v","language":"de","request_id":"u1","seed":3}',
            Speak("Hi", "v", "de", "u1"),
        ),
        ('{"type":"speak","text":"Hi","language":1,"request_id":2}', Speak("Hi")),
        ('{"type":"cancel","request_id":"u1"}', Cancel()),
        ('{"type":"stop"}', Stop()),
    ],
)
def test_a_valid_message_is_parsed(raw: str, message: Message) -> None:
    assert parse(raw, LIMIT) == message


@pytest.mark.parametrize(
    "raw", ["", "null", "{", '{"type":1}', '{"type":"speak","text":null}', '{"type":"Speak","text":"a"}']
)
def test_what_cannot_be_parsed_says_so(raw: str) -> None:
    assert str(outcome(raw)).startswith("Failed to parse message: ")


def test_every_error_of_the_tree_has_a_code_of_v1() -> None:
    expected = {
        InvalidRequest: "INVALID_MESSAGE",
        NotReady: "TTS_NOT_READY",
        LoadFailed: "TTS_LOAD_FAILED",
        UnknownVoice: "TTS_INFERENCE_FAILED",
        Stalled: "TTS_INFERENCE_FAILED",
        BackendDied: "TTS_INFERENCE_FAILED",
        SpeechError: "TTS_INFERENCE_FAILED",
    }
    assert {kind: code_of(kind("x")) for kind in expected} == expected
