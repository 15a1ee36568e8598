"""openapi.json against the routes there are and the answers they give, and the page made of it."""

import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from frontend import errors
from frontend.app import create_app
from frontend.encodings import FILE_FORMATS, PCM_RATES, make_file_encoder
from frontend.entrance import OPEN
from frontend.http_api import DESCRIPTION
from frontend.http_voices import FIELD_CHARS
from frontend.openai_errors import ApiError
from frontend.settings import Settings
from frontend.speech_order import MAX_SPEED, MIN_SPEED, read_order
from frontend.synthesis import Description
from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script
from tests.frontend.http_client import ask
from tests.frontend.test_http_voices import ADMIN, KEYS, add, call, sound
from tests.frontend.test_protocol_documents import strict

UNDESCRIBED = {"/", "/static/<name>", "/openapi.json", "/docs", "/asyncapi.yaml"}
ALIASES = {"/api/v1/voices": "/v1/audio/voices", "/api/v1/voices/<name>": "/v1/audio/voices/<name>"}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return json.loads(DESCRIPTION.read_text(encoding="utf-8"))


@pytest.fixture
def speech() -> FakeSpeech:
    fake = FakeSpeech()
    details = {"type": "base", "voices": ["makima"], "speakers": [], "default_voice": "makima"}
    fake.description = Description("qwen3-tts-fake", "instance-1", False, details)
    return fake


@pytest.fixture
async def server(speech: FakeSpeech, tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(speech, voices=tmp_path, voice_upload=True, api_keys=KEYS) as running:
        yield running


def check(description: dict[str, Any], schema: str, value: object) -> None:
    """The value is as described, and has no field that is not."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": description["components"]}
    Draft202012Validator(strict(root)).validate(value)


def test_the_description_is_valid(description: dict[str, Any]) -> None:
    validate(description)


def test_every_route_is_described_and_nothing_else_is(description: dict[str, Any], speech: FakeSpeech) -> None:
    app = create_app(Settings(host="127.0.0.1"), speech)
    rules = [rule for rule in app.url_map.iter_rules() if not rule.websocket and rule.rule not in UNDESCRIBED]
    routes = {
        (method.lower(), re.sub(r"<\w+>", "{id}", ALIASES.get(rule.rule, rule.rule)))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(method, path) for path, item in description["paths"].items() for method in set(item) - {"parameters"}}
    assert routes == described


def test_an_order_is_described_with_the_limits_it_has(description: dict[str, Any]) -> None:
    fields = description["components"]["schemas"]["SpeechOrder"]["properties"]
    assert fields["response_format"]["enum"] == list(FILE_FORMATS)
    assert fields["sample_rate"]["enum"] == list(PCM_RATES)
    assert (fields["speed"]["minimum"], fields["speed"]["maximum"]) == (MIN_SPEED, MAX_SPEED)
    assert fields["input"]["maxLength"] == Settings(host="127.0.0.1").max_request_chars
    kinds = description["paths"]["/v1/audio/speech"]["post"]["responses"]["200"]["content"]
    assert set(kinds) == {make_file_encoder(name).content_type for name in FILE_FORMATS} | {"text/event-stream"}


def test_every_field_of_a_request_that_is_read_is_described_and_no_other(
    description: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Read(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.add(name)
            return super().__getitem__(name)

        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return super().get(name, default)

    read: set[str] = set()
    monkeypatch.setattr("frontend.speech_order._decoded", lambda body: Read(input="Hello."))
    read_order(b"", 100)
    assert read == set(description["components"]["schemas"]["SpeechOrder"]["properties"])
    upload = description["components"]["schemas"]["VoiceUpload"]["properties"]
    limits = {name: field["maxLength"] for name, field in upload.items() if name != "audio_sample"}
    assert limits == FIELD_CHARS


def test_every_refusal_that_a_route_can_give_is_described(description: dict[str, Any]) -> None:
    for path, item in description["paths"].items():
        for method in set(item) - {"parameters"}:
            if path not in OPEN:
                assert {"401", "403"} <= set(item[method]["responses"]), f"{method} {path}"
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SpeechError)]
    statuses = {str(ApiError.of(kind("no")).status) for kind in kinds}
    assert statuses <= set(description["paths"]["/v1/audio/speech"]["post"]["responses"])


async def test_health_is_told_as_described(speech: FakeSpeech, description: dict[str, Any]) -> None:
    details = {"type": "base", "size": "0b6", "default_voice": "makima"}
    async with running_server(speech) as server:
        for model in (Description("tiny", "1", True, details), Description("tiny", "1", False, details)):
            speech.description = model
            check(description, "Ready", (await server.get("/readyz"))[1])
        check(description, "Alive", (await server.get("/healthz"))[1])
        server.registry.draining = True
        assert (await server.get("/readyz"))[0] == 503
        check(description, "NotReady", (await server.get("/readyz"))[1])


async def test_answers_are_what_the_description_says(server: RunningServer, description: dict[str, Any]) -> None:
    check(description, "Models", (await call(server, "GET", "/v1/models")).body)
    check(description, "Model", (await call(server, "GET", "/v1/models/tts-1")).body)
    check(description, "Voices", (await call(server, "GET", "/v1/audio/voices")).body)
    check(description, "Voice", (await call(server, "GET", "/v1/audio/voices/makima")).body)
    check(description, "Voice", (await add(server, sound())).body)
    check(description, "Token", (await call(server, "POST", "/v1/tokens")).body)


async def test_refusals_are_what_the_description_says(server: RunningServer, description: dict[str, Any]) -> None:
    for key, method, path, status in [
        (None, "POST", "/v1/audio/speech", 401),
        (ADMIN, "POST", "/v1/audio/speech", 400),
        (ADMIN, "PUT", "/v1/audio/speech", 405),
        (ADMIN, "GET", "/v1/audio/voices/nobody", 404),
        (ADMIN, "GET", "/v1/nothing", 404),
    ]:
        answer = await call(server, method, path, key=key)
        assert answer.status == status
        check(description, "Error", answer.body)


async def test_events_are_what_the_description_says(speech: FakeSpeech, description: dict[str, Any]) -> None:
    async with running_server(speech) as server:
        answer = await ask(server, input="Hi.", stream_format="sse", response_format="pcm")
    assert {event["type"] for event in answer.events} == {"speech.audio.delta", "speech.audio.done"}
    for event in answer.events:
        check(description, "SpeechEvent", event)


async def test_a_bug_is_an_error_of_the_described_shape(speech: FakeSpeech, description: dict[str, Any]) -> None:
    speech.script("Bad.", Script(frames=0, error=RuntimeError("a secret")))
    async with running_server(speech) as server:
        answer = await ask(server, input="Bad.")
    assert answer.status == 500
    assert b"secret" not in answer.body
    check(description, "Error", json.loads(answer.body))


class Links(HTMLParser):
    """What a page refers to, and that its tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_documents_are_open_and_the_page_needs_nothing_from_outside(server: RunningServer) -> None:
    served = await call(server, "GET", "/openapi.json", key=None)
    assert served.raw == DESCRIPTION.read_bytes()
    answer = await call(server, "GET", "/docs", key=None)
    assert (answer.status, "content-security-policy: default-src 'none'" in answer.headers) == (200, True)
    links = Links()
    links.feed(answer.raw.decode())
    assert (links.open, set(links.found)) == ([], {"/static/style.css", "/openapi.json"})
    for path in json.loads(served.raw)["paths"]:
        assert path.encode() in answer.raw
    assert (await call(server, "GET", "/static/style.css", key=None)).status == 200
