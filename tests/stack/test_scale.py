"""Many servers at one address: what the profile `scale` promises, with its very haproxy.cfg and nothing simulated."""

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from commands.triton_installation import find_installation
from commands.triton_server import HOST
from frontend.client import SpeechClient
from frontend.settings import Settings
from frontend.triton import UTTERANCE_HEADER
from tests.conftest import Figure
from tests.stack.conftest import ENVIRONMENT, Render, same_sound
from tests.stack.doors import through_every_door
from tests.stack.scaled import ADDRESSES, Scaled
from tests.stack.serving import seconds_until
from tests.stack.speaking import CANCELLED, COMPLETE, Heard, ask, listen, speak, stream
from tests.stack.test_cancel import CANCEL
from tests.stack.test_protocol_v2 import sound

pytestmark = pytest.mark.stack

# Longer than a test takes: whatever ends before was ended.
LONG = "A long story has a beginning, then a middle that goes on and on, and only at last an end. " * 20
SHORT = "Somebody answers."
START_LIMIT_S = 120.0
BACK_LIMIT_S = 60.0
TAKEN_OVER_S = 2.0
GOES_ON_LIMIT_S = 20.0
# websockets waits so long for the last words of a server when much that it did not read lies before them.
FAREWELL_S = 0.5
COMPANY = 12
UNREADY = "frontend.readiness not ready"
ACCEPT_S = Settings.model_fields["accept_s"].default
# Until a server is found that answers: HAProxy gives questions to the one that hangs until they are too many.
FOUND_S = ACCEPT_S + 1.0
SURELY_GIVEN_S = 1.0
# Longer than an utterance may be silent before the model is asked about it, twice.
PAUSE_S = 2.3
LIVE_TEXTS = [["Nobody knows ", "which of them ", "it will be."], ["Every word ", "goes where ", "the first one went."]]


@pytest.fixture(scope="module")
def scaled(greedy_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    folder = tmp_path_factory.mktemp("scaled")
    environment = {**ENVIRONMENT, "QWEN3_TTS_MODEL": str(greedy_checkpoint), "OMP_NUM_THREADS": "1"}
    running = Scaled(find_installation(folder), environment, folder)
    try:
        asyncio.run(_whole(running, START_LIMIT_S))
        yield running
    finally:
        running.end()


async def _whole(scaled: Scaled, limit_s: float) -> float:
    """How long it takes until every server is well and takes its share."""
    return await seconds_until(scaled.is_whole, limit_s)


@contextlib.asynccontextmanager
async def listeners(scaled: Scaled, count: int) -> AsyncIterator[list[tuple[ClientConnection, Heard]]]:
    """Sockets with a long utterance each, one after the other, so that each finds the one before counted."""
    async with AsyncExitStack() as sockets:
        speaking = []
        for _ in range(count):
            socket = await sockets.enter_async_context(connect(scaled.url, close_timeout=FAREWELL_S))
            heard = Heard(await ask(socket, LONG))
            await listen(socket, heard, messages=1)
            assert not heard.terminal, heard.terminal
            speaking.append((socket, heard))
        yield speaking
    await seconds_until(lambda: sum(scaled.active()) == 0, BACK_LIMIT_S)


async def _goes_on(socket: ClientConnection, heard: Heard, moment: float) -> bool:
    """Whether sound still comes at a moment, when all that was on its way before has come."""
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + GOES_ON_LIMIT_S):
        while not heard.terminal and time.monotonic() < moment:
            try:
                await listen(socket, heard, messages=len(heard.pcm) + 1)
            except ConnectionClosed:
                return False
    return not heard.terminal


async def _heard_again(scaled: Scaled) -> float:
    """When the first sound came of an utterance that was asked for until it was spoken."""
    async with asyncio.timeout(BACK_LIMIT_S):
        while True:
            with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed):
                async with connect(scaled.url) as socket:
                    heard = await speak(socket, SHORT)
                    if heard.terminal == COMPLETE:
                        assert heard.first is not None
                        return heard.first


async def test_utterances_and_sockets_are_shared_out_evenly(scaled: Scaled, figure: Figure) -> None:
    async with listeners(scaled, 6):
        utterances, sockets = await asyncio.gather(
            asyncio.to_thread(scaled.active), asyncio.to_thread(scaled.sessions, "frontends")
        )
    figure("scale: six utterances over two Tritons", utterances)
    assert min(utterances) >= 2
    assert min(sockets) >= 2


async def test_live_text_stays_with_the_server_that_speaks_it(scaled: Scaled, render: Render) -> None:
    """With pauses in which the model is asked whether it lives, which another server would answer with another name."""

    async def written(client: SpeechClient, parts: list[str]) -> np.ndarray:
        utterance = await client.speak("", final=False, max_seconds=4)
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(PAUSE_S)  # the writer's pace, not a wait for something to happen
            await client.send({"type": "text", "request_id": utterance.request_id, "text": part})
        await utterance.end()
        return await sound(utterance)

    async with AsyncExitStack() as clients:
        connected = [await clients.enter_async_context(SpeechClient(scaled.url)) for _ in range(4)]
        texts = [LIVE_TEXTS[number % 2] for number in range(4)]
        heard = await asyncio.gather(*map(written, connected, texts))
    wanted = render([{"text": "".join(text), "text_placement": "stream", "max_frames": 50} for text in LIVE_TEXTS])
    for number, spoken in enumerate(heard):
        assert same_sound(spoken, wanted[number % 2])


async def test_a_killed_triton_takes_only_its_own_utterances_with_it(scaled: Scaled, figure: Figure) -> None:
    async with listeners(scaled, 4) as speaking:
        lost, kept = await asyncio.to_thread(scaled.active)
        assert lost > 0
        assert kept > 0
        scaled.tritons[0].kill()
        killed_at = time.monotonic()
        later = killed_at + TAKEN_OVER_S
        first, *alive = await asyncio.gather(
            _heard_again(scaled), *(_goes_on(socket, heard, later) for socket, heard in speaking)
        )
    figure("scale: the next utterance is heard after a Triton is killed", f"{first - killed_at:.2f} s")
    assert first - killed_at < TAKEN_OVER_S
    assert alive.count(True) == kept
    for (_, heard), lives in zip(speaking, alive, strict=True):
        assert lives or json.loads(heard.terminal)["type"] == "error"
    scaled.tritons[0].start_again()
    back = await _whole(scaled, BACK_LIMIT_S)
    async with listeners(scaled, 3):
        taken = await asyncio.to_thread(scaled.active)
    figure("scale: a Triton that was started again is found well", f"after {back:.1f} s, then has {taken[0]} of 3")
    assert taken[0] > 0


@contextlib.asynccontextmanager
async def _company(scaled: Scaled) -> AsyncIterator[int]:
    """Keeps one Triton the busier for HAProxy, by utterances whose text does not come; the other one's number."""
    address, left = f"{HOST}:{scaled.ports.balanced_grpc}", asyncio.Event()

    async def stay(number: int, inside: asyncio.Event) -> None:
        async def request() -> AsyncIterator[dict[str, object]]:
            yield {"text": "", "utterance": f"company-{number}", "text_complete": False}
            await left.wait()

        async for _ in stream(address, request(), {UTTERANCE_HEADER: "company"}):
            inside.set()

    def waiting() -> list[int]:
        return scaled.shown("tts_waiting_utterances")

    staying = []
    try:
        for number in range(COMPANY):
            inside = asyncio.Event()
            staying.append(asyncio.create_task(stay(number, inside)))
            await asyncio.wait_for(inside.wait(), BACK_LIMIT_S)
        await seconds_until(lambda: sorted(waiting()) == [0, COMPANY], BACK_LIMIT_S)
        yield waiting().index(0)
    finally:
        left.set()
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)


async def _cancelled_in_silence(scaled: Scaled) -> float:
    """How long a cancel takes of an utterance that was given to a Triton that hangs."""
    async with connect(scaled.url) as socket:
        heard = Heard(await ask(socket, SHORT))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(listen(socket, heard), SURELY_GIVEN_S)
        cancelled = time.monotonic()
        await socket.send(CANCEL)
        await listen(socket, heard)
    assert heard.terminal == CANCELLED
    return heard.ended - cancelled


async def test_what_was_asked_of_a_hung_triton_is_heard_from_another(scaled: Scaled, figure: Figure) -> None:
    """Before any check could know that it hangs; and of nobody is anything left there when it goes on."""
    address = f"{HOST}:{scaled.ports.balanced_http}"
    told = ("tts_utterances_total", 'reason="complete"')
    before = sum(await asyncio.to_thread(scaled.shown, *told))
    wanted = await through_every_door(address)
    # An end is heard before it is counted.
    await seconds_until(lambda: sum(scaled.shown(*told)) == before + len(wanted), BACK_LIMIT_S)
    unready = [scaled.log(f"frontend-{server}").count(UNREADY) for server in ADDRESSES]
    complete = await asyncio.to_thread(scaled.shown, *told)
    async with _company(scaled) as hung:
        scaled.tritons[hung].suspend()
        try:
            heard, cancelled_s = await asyncio.gather(through_every_door(address), _cancelled_in_silence(scaled))
            await seconds_until(lambda: scaled.up("tritons") == 1, BACK_LIMIT_S)
            await _heard_again(scaled)
        finally:
            scaled.tritons[hung].resume()
    waits = {door: answer.first_s for door, answer in heard.items()}
    figure("scale: heard although its Triton hung", ", ".join(f"{door} {wait:.1f} s" for door, wait in waits.items()))
    figure("scale: a cancel of what a hung Triton has", f"{1000 * cancelled_s:.0f} ms")
    for door, answer in heard.items():
        assert ACCEPT_S <= answer.first_s < ACCEPT_S + FOUND_S, f"{door} was given to the one that hung"
        assert same_sound(answer.pcm, wanted[door].pcm), "all of it, and once"
    assert cancelled_s < TAKEN_OVER_S
    assert [scaled.log(f"frontend-{server}").count(UNREADY) for server in ADDRESSES] == unready, "one of two answers"
    await _whole(scaled, BACK_LIMIT_S)
    for level in ("tts_active_utterances", "tts_waiting_utterances"):
        await seconds_until(lambda level=level: sum(scaled.shown(level)) == 0, BACK_LIMIT_S)
    complete[1 - hung] += len(heard) + 1
    assert await asyncio.to_thread(scaled.shown, *told) == complete


async def test_a_killed_frontend_takes_only_its_own_sockets_with_it(scaled: Scaled, figure: Figure) -> None:
    async with listeners(scaled, 4) as speaking:
        shares = await asyncio.to_thread(scaled.sessions, "frontends")
        assert min(shares) > 0
        scaled.frontends[0].kill()
        killed_at = time.monotonic()
        later = killed_at + TAKEN_OVER_S
        first, *alive = await asyncio.gather(
            _heard_again(scaled), *(_goes_on(socket, heard, later) for socket, heard in speaking)
        )
    figure("scale: the next utterance is heard after a frontend is killed", f"{first - killed_at:.2f} s")
    assert first - killed_at < TAKEN_OVER_S
    assert alive.count(True) in shares
    scaled.frontends[0].start_again()
    await _whole(scaled, BACK_LIMIT_S)
    async with listeners(scaled, 3):
        assert min(await asyncio.to_thread(scaled.sessions, "frontends")) > 0


def test_a_browser_stays_with_the_frontend_that_gave_it_its_token(scaled: Scaled) -> None:
    """Which alone knows the token. Whoever keeps no cookies is balanced freely."""

    def servers_of(visits: int, *handlers: urllib.request.BaseHandler) -> set[str]:
        before = scaled.served("frontends")
        for _ in range(visits):
            # A connection each, since a browser may open several.
            visit = urllib.request.Request(
                f"http://{HOST}:{scaled.ports.balanced_http}/", headers={"Connection": "close"}
            )
            urllib.request.build_opener(*handlers).open(visit, timeout=5).close()
        after = scaled.served("frontends")
        return {name for name in after if after[name] > before[name]}

    assert len(servers_of(6, urllib.request.HTTPCookieProcessor(CookieJar()))) == 1
    assert len(servers_of(6)) == len(ADDRESSES)


async def test_prometheus_is_told_of_every_server(scaled: Scaled) -> None:
    told = await asyncio.to_thread(scaled.statistics, "/metrics")
    up = [line for line in told.splitlines() if line.startswith("haproxy_server_status") and 'state="UP"' in line]
    tritons = [line for line in up if 'proxy="tritons"' in line and line.endswith(" 1")]
    assert len(tritons) == len(ADDRESSES)
