"""docs/asyncapi.yaml and docs/protocol.md against each other, the code's tables, and messages of real sessions."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from frontend import events_v2, messages, messages_v2
from frontend.encodings import SOCKET_FORMATS
from frontend.errors import InferenceFailed, InvalidRequest, Overloaded
from tests.conftest import REPOSITORY
from tests.frontend.conftest import running_server
from tests.frontend.fakes import FakeSpeech, Script
from tests.frontend.v2 import Listener, v2_client

DOCUMENT: dict[str, Any] = yaml.safe_load((REPOSITORY / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
PROSE = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def strict(schema: Any) -> Any:
    """The schema, but every field it does not name is wrong: nothing is sent that is not documented."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(value) for name, value in schema.items()}
    return {"additionalProperties": False} | inner if "properties" in schema and "type" in schema else inner


def check(name: str, message: dict[str, Any]) -> None:
    payload = strict(MESSAGES[name]["payload"]) | {"components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(payload).validate(message)


def names(operation: str) -> list[str]:
    return [reference["$ref"].rsplit("/", 1)[1] for reference in DOCUMENT["operations"][operation]["messages"]]


def examples(heading: str) -> Iterator[dict[str, Any]]:
    """The messages that stand under a heading of the prose."""
    section = PROSE.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL):
        yield from map(json.loads, block.splitlines())


def test_every_reference_of_the_document_leads_somewhere() -> None:
    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for name, value in node.items():
                if name == "$ref":
                    yield value
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    for reference in walk(DOCUMENT):
        target = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    for message in MESSAGES.values():
        jsonschema.Draft202012Validator.check_schema(message["payload"])


def test_the_document_has_the_types_codes_and_formats_of_the_code() -> None:
    assert tuple(names("v2FromClient")) == messages_v2.TYPES
    constants = [value for name, value in vars(events_v2).items() if name.isupper() and value == name]
    warnings = set(MESSAGES["warning"]["payload"]["properties"]["code"]["enum"])
    codes = set(MESSAGES["error"]["payload"]["properties"]["code"]["enum"])
    own = {messages_v2.TEXT_EMPTY, messages_v2.TEXT_TOO_LONG}
    assert codes | warnings == {*constants, *own}
    assert set(MESSAGES["v1_error"]["payload"]["properties"]["code"]["enum"]) == set(messages.CODES.values())
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["encoding"]["enum"]) == set(SOCKET_FORMATS)
    assert set(schemas["rate"]["enum"]) == {rate for rates in SOCKET_FORMATS.values() for rate in rates}
    for table, choices in (("mode", messages_v2.MODES), ("timestamps", messages_v2.TIMESTAMPS)):
        assert set(schemas[table]["enum"]) == {*choices, None}
    for code in codes:
        assert f"`{code}`" in PROSE


@pytest.mark.parametrize(
    ("heading", "operation", "prefix"),
    [
        ("## v1", None, "v1_"),
        ("### What a client says", "v2FromClient", ""),
        ("### What a server says", "v2FromServer", ""),
    ],
)
def test_the_examples_of_the_prose_are_messages_of_the_document(
    heading: str, operation: str | None, prefix: str
) -> None:
    shown = list(examples(heading))
    for message in shown:
        check(prefix + message["type"], message)
    if operation is not None:
        assert {message["type"] for message in shown} == set(names(operation)) - {"audio"}
    if operation == "v2FromClient":
        tagged = messages_v2.Start(messages_v2.Wishes(), "tagged")
        for message in shown:
            messages_v2.parse(json.dumps(message), tagged, 5000)


class Read(dict[str, Any]):
    """An object of JSON that notes which of its fields are read."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({name: Read(inner) if isinstance(inner, dict) else inner for name, inner in values.items()})
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("message", list(examples("### What a client says")), ids=lambda message: message["type"])
def test_every_field_of_a_clients_message_that_is_read_is_described_and_no_other(
    message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = Read(message)
    monkeypatch.setattr("frontend.messages.decode", lambda raw: values)
    messages_v2.parse("", messages_v2.Start(messages_v2.Wishes(), "tagged"), 5000)
    described = MESSAGES[message["type"]]["payload"]["properties"]
    # The id of whatever it may be is looked for first, for an error to name it.
    assert values.names | {"request_id"} == set(described) | {"request_id"}
    if "format" in described and "format" in message:
        assert values["format"].names == set(described["format"]["properties"])


NUMBERS = [
    (kind, name, field["minimum"], field["maximum"], field["type"][0])
    for kind in messages_v2.TYPES
    for name, field in MESSAGES[kind]["payload"]["properties"].items()
    if {"integer", "number"} & set(field.get("type", ()))
]


@pytest.mark.parametrize(("kind", "name", "lowest", "highest", "number"), NUMBERS)
def test_the_limits_of_numbers_are_those_of_the_document(
    kind: str, name: str, lowest: float, highest: float, number: str
) -> None:
    def parse(value: float) -> messages_v2.Message:
        message = {"type": kind, "text": "Hello.", name: value}
        return messages_v2.parse(json.dumps(message), messages_v2.Start(messages_v2.Wishes()), 5000)

    step = 1 if number == "integer" else 0.01
    assert getattr(parse(lowest), name) == lowest
    assert getattr(parse(highest), name) == highest
    for beyond in (lowest - step, highest + step):
        with pytest.raises(messages_v2.InvalidMessage, match=f"`{name}` must be from"):
            parse(beyond)


async def test_every_message_of_real_sessions_is_in_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, Any]] = []

    def keep(listener: Listener, frame: str | bytes) -> dict[str, Any] | bytes:
        if isinstance(frame, str):
            heard.append(json.loads(frame))
        return take(listener, frame)

    take = Listener.take
    monkeypatch.setattr(Listener, "take", keep)
    monkeypatch.setattr("frontend.speaking.PROGRESS_S", 0.0)
    await speak_of_everything()
    for message in heard:
        check(message["type"], message)
    assert {message["type"] for message in heard} == set(names("v2FromServer")) - {"audio"}


async def speak_of_everything() -> None:
    speech = FakeSpeech()
    speech.script("Long.", Script(hold_after=1))
    for name, error in (("F1", InferenceFailed("bad")), ("F2", InvalidRequest("bad")), ("F3", Overloaded("bad", 5))):
        speech.script(name, Script(frames=1, error=error))
    async with running_server(speech, drain_s=0.1) as server, v2_client(server, format={"framing": "tagged"}) as client:
        await client.speak("Long.", "u1", voice="nobody", progress=True, timestamps="word")
        await client.audio()
        await client.speak("Two.", "u2")
        await client.send(type="cancel", played_ms=1)
        await client.ended("u1")
        for name in ("F1", "F2", "F3"):
            await client.speak(name, name)
            await client.ended(name)
        await client.speak("Live", "u3", final=False)
        await client.send(type="flush", request_id="u3")
        await client.until("flushed")
        await client.send(type="end", request_id="u3")
        await client.ended("u3")
        await client.send(type="ping", id="p")
        await client.until("pong")
        await client.speak(" ", "u4")
        await client.connection.send("{")
        await client.speak("Long.", "u5")
        await client.audio()
        server.drain.signal()
        await client.closed()


@pytest.mark.parametrize(
    "sent", ['{"type":"speak","text":"a","request_id":"u"}', '{"type":"speak","text":"","request_id":"u"}']
)
async def test_messages_of_protocol_1_are_in_the_document(sent: str) -> None:
    async with running_server(FakeSpeech()) as server, server.client() as client:
        await client.connection.send(sent)
        message = json.loads((await client.utterance())[1])
        check(f"v1_{message['type']}", message)
