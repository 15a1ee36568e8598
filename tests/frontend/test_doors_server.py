"""The doors of a running server: refused before the upgrade, let in by header, subprotocol or token, none logged."""

import asyncio
import json
import logging
import os
import sys
import urllib.request
from contextlib import AsyncExitStack

import pytest
from quart import Quart
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from frontend.api_keys import Scope, entry, make_key
from frontend.app import create_app
from frontend.errors import NotReady
from frontend.settings import Settings
from frontend.synthesis import ModelState, ModelStatus
from tests.frontend.conftest import PATIENCE_S, Client, RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, audio_of

SPEAKER, ADMIN = make_key(), make_key()
KEYS = {"api_keys": f"{entry('alice', Scope.SPEAK, SPEAKER)},{entry('root', Scope.ADMIN, ADMIN)}"}
V2 = Subprotocol("speak.v2")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def app() -> Quart:
    return create_app(Settings(**KEYS), FakeSpeech())


async def refused(server: RunningServer, **options: object) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"ws://{server.address}/api/v1/speak", open_timeout=PATIENCE_S, **options)
    return refusal.value


async def test_without_a_key_no_socket_is_opened(speech: FakeSpeech) -> None:
    async with running_server(speech, **KEYS) as server:
        for headers in ({}, bearer("tts_wrong")):
            response = (await refused(server, additional_headers=headers)).response
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert json.loads(response.body or b"")["error"]["code"] == "unauthorized"
        assert len(server.registry) == 0


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/api/v1/speak/", 404), ("/v1/audio/speech", 405)])
async def test_a_socket_at_a_wrong_path_is_the_callers_mistake_and_no_defect(
    server: RunningServer, caplog: pytest.LogCaptureFixture, path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"ws://{server.address}{path}", open_timeout=PATIENCE_S)
    assert refusal.value.response.status_code == status
    assert caplog.records == []


async def test_a_request_at_the_path_of_a_socket_is_told_so(server: RunningServer) -> None:
    status, body = await server.get("/api/v1/speak")
    assert (status, body["error"]["message"]) == (400, "this path is for WebSockets alone")


async def test_a_key_opens_sockets_of_both_protocols(speech: FakeSpeech) -> None:
    async with running_server(speech, **KEYS) as server:
        url = f"ws://{server.address}/api/v1/speak"
        async with connect(url, additional_headers=bearer(SPEAKER)) as connection:
            client = Client(connection)
            await client.speak("Hello.")
            assert (await client.utterance())[0] == audio_of("Hello.")
        async with connect(url, subprotocols=[V2, Subprotocol(f"bearer.{SPEAKER}")]) as connection:
            assert connection.subprotocol == "speak.v2"
            assert json.loads(await Client(connection).receive())["type"] == "ready"


async def test_a_browser_gets_a_token_for_one_socket(speech: FakeSpeech) -> None:
    async with running_server(speech, **KEYS) as server:
        request = urllib.request.Request(f"http://{server.address}/v1/tokens", b"", bearer(SPEAKER))
        with await asyncio.to_thread(urllib.request.urlopen, request, timeout=PATIENCE_S) as answer:
            body = json.load(answer)
            assert answer.headers["Cache-Control"] == "no-store"
        assert body["expires_in"] == 60
        offered = [V2, Subprotocol(f"bearer.{body['token']}")]
        async with connect(f"ws://{server.address}/api/v1/speak", subprotocols=offered) as connection:
            assert connection.subprotocol == "speak.v2"
            assert json.loads(await Client(connection).receive())["type"] == "ready"
        assert (await refused(server, subprotocols=offered)).response.status_code == 401


async def test_a_foreign_page_opens_no_socket(server: RunningServer) -> None:
    refusal = await refused(server, origin=Origin("https://evil.example"))
    assert refusal.response.status_code == 403
    own = connect(f"ws://{server.address}/api/v1/speak", origin=Origin(f"http://{server.address}"))
    async with own as connection:
        await connection.ping()


async def test_one_address_has_so_many_sockets_and_gets_them_back(speech: FakeSpeech) -> None:
    async with running_server(speech, max_sockets_per_address=2) as server:
        async with AsyncExitStack() as clients:
            for _ in range(2):
                await clients.enter_async_context(server.client())
            response = (await refused(server)).response
            assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        await server.all_closed()
        async with server.client() as client:
            await client.speak("Hello.")
            assert (await client.utterance())[0] == audio_of("Hello.")


async def test_one_key_has_so_many_sockets(speech: FakeSpeech) -> None:
    async with running_server(speech, max_sockets_per_key=1, **KEYS) as server:
        url = f"ws://{server.address}/api/v1/speak"
        async with connect(url, additional_headers=bearer(SPEAKER)):
            assert (await refused(server, additional_headers=bearer(SPEAKER))).response.status_code == 429
            async with connect(url, additional_headers=bearer(ADMIN)) as other:
                await other.ping()


async def test_a_refused_utterance_says_when_to_come_back(speech: FakeSpeech) -> None:
    async with running_server(speech, character_burst=10, character_rate_per_s=10) as server:
        url = f"ws://{server.address}/api/v1/speak"
        async with connect(url, subprotocols=[V2]) as connection:
            client = Client(connection)
            await client.receive()
            await client.speak("0123456789", request_id="first")
            while json.loads(message := await _text(client))["type"] != "audio_end":
                pass
            assert json.loads(message)["reason"] == "complete"
            await client.speak("0123456789", request_id="second")
            error = json.loads(await _text(client))
            assert (error["code"], error["accepted"], error["recoverable"]) == ("TOO_MANY_REQUESTS", False, True)
            assert 100 <= error["retry_after_ms"] <= 1000


async def _text(client: Client) -> str:
    while isinstance(frame := await client.receive(), bytes):
        pass
    return frame


async def test_one_key_cannot_take_the_tokens_of_another() -> None:
    client = create_app(Settings(**KEYS, max_unused_tokens=3, max_unused_tokens_per_key=2), FakeSpeech()).test_client()
    statuses = [(await client.post("/v1/tokens", headers=bearer(SPEAKER))).status_code for _ in range(2)]
    refusal = await client.post("/v1/tokens", headers=bearer(SPEAKER))
    error = (await refusal.get_json())["error"]
    assert (statuses, refusal.status_code, error["code"]) == ([200, 200], 429, "too_many_requests")
    assert error["message"] == "2 tokens of this caller are unused, the limit is 2"
    assert 1 <= int(refusal.headers["Retry-After"]) <= 60
    assert (await client.post("/v1/tokens", headers=bearer(ADMIN))).status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_the_page_and_the_health_of_the_server_are_for_everybody(app: Quart, path: str) -> None:
    assert (await app.test_client().get(path)).status_code == 200


@pytest.mark.parametrize(
    ("key", "knows"),
    [(None, False), ("tts_wrong", False), (SPEAKER, False), (ADMIN, True)],
    ids=["nobody", "stranger", "speaker", "admin"],  # keys differ from one worker of the tests to the next
)
async def test_why_the_model_could_not_be_loaded_is_for_the_log_and_an_admin(
    speech: FakeSpeech, caplog: pytest.LogCaptureFixture, key: str | None, knows: bool
) -> None:
    speech.description = NotReady("no answer")
    speech.status = ModelStatus(ModelState.FAILED, "no file /srv/secret/model.safetensors\n  at line 3")
    client = create_app(Settings(**KEYS), speech).test_client()
    answer = await client.get("/readyz", headers={} if key is None else bearer(key))
    body = await answer.get_json()
    assert (answer.status_code, body["reason"]) == (503, "the model could not be loaded")
    assert body.get("detail") == (speech.status.reason if knows else None)
    assert (
        "not ready: the model could not be loaded: no file /srv/secret/model.safetensors at line 3" in caplog.messages
    )


async def test_no_speaker_is_told_where_the_models_files_or_servers_are(speech: FakeSpeech) -> None:
    speech.description = NotReady("no answer")
    async with running_server(speech, **KEYS) as server:
        for status in (ModelStatus(ModelState.FAILED, "no /srv/secret"), NotReady("away", detail="secret:8001: gone")):
            speech.status = status
            async with connect(f"ws://{server.address}/api/v1/speak", additional_headers=bearer(SPEAKER)) as connection:
                client = Client(connection)
                await client.speak("Hello.")
                assert "secret" not in await _text(client)


async def test_every_other_route_asks_for_a_key(app: Quart) -> None:
    client = app.test_client()
    asked = []
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(("/v1/", "/api/")) and not rule.websocket:
            for method in (rule.methods or set()) & {"GET", "POST", "DELETE"}:
                path = rule.rule.replace("<voice_id>", "x").replace("<id>", "x").replace("<voice>", "x")
                asked.append(path)
                assert (await client.open(path, method=method)).status_code == 401, f"{method} {path}"
    assert {"/v1/tokens", "/v1/audio/speech", "/v1/models"} <= set(asked)


async def test_a_listed_page_may_read_answers_and_ask_first() -> None:
    client = create_app(Settings(origins="https://app.example"), FakeSpeech()).test_client()
    headers = {"Origin": "https://app.example"}
    asked = await client.open("/v1/tokens", method="OPTIONS", headers=headers)
    assert asked.status_code == 204
    allowed = asked.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Traceparent", "Tracestate"} <= set(allowed)
    answer = await client.post("/v1/tokens", headers=headers)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    foreign = await client.open("/v1/tokens", method="OPTIONS", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_neither_keys_nor_query_strings_nor_text_are_logged(
    speech: FakeSpeech, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "frontend")
    async with running_server(speech, **KEYS) as server:
        await refused(server, additional_headers=bearer("tts_secretkey"))
        url = f"ws://{server.address}/api/v1/speak?token=secretquery"
        async with connect(url, additional_headers=bearer(SPEAKER)) as connection:
            client = Client(connection)
            await client.speak("A secret sentence.")
            await client.utterance()
    assert "refused status=401 code=UNAUTHORIZED path=/api/v1/speak" in caplog.text
    assert 'reason="complete"' in caplog.text
    for secret in (SPEAKER, "tts_secretkey", "secretquery", "secret sentence"):
        assert secret not in caplog.text


async def test_a_server_open_to_everybody_by_mistake_does_not_start() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "frontend"),
        env=os.environ | {"FRONTEND_HOST": "0.0.0.0", "FRONTEND_PORT": "0"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, log = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    [line] = log.decode().splitlines()
    assert line.startswith("frontend: FRONTEND_HOST=0.0.0.0 can be reached from outside")
