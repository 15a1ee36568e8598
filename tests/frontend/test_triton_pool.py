"""Several servers as one: who speaks, who is passed over, who comes back."""

import asyncio
from contextlib import aclosing

import pytest

from frontend.errors import BackendDied, InvalidRequest, NotReady, Overloaded, SpeechError
from frontend.synthesis import Description, ModelState, ModelStatus, SpeechRequest
from frontend.triton import TritonSpeech
from frontend.triton_pool import TritonPool
from tests.frontend.fakes import FakeSpeech, Script
from tests.frontend.triton_double import Stream, TritonDouble, serving


class Server(FakeSpeech):
    """A fake with a connection, which `refusal` makes fail before any sound."""

    def __init__(self, instance: str) -> None:
        super().__init__()
        self.refusal: SpeechError | None = None
        self.closed = False
        limits = {"slots": 4, "max_waiting": 8, "max_frames": 100}
        self.description = Description("tiny", instance, False, {"limits": limits, "active": 1, "waiting": 0})

    async def speak(self, request, more=None):
        if self.refusal is not None:
            self.requests.append(request)
            raise self.refusal
        async with aclosing(super().speak(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def servers() -> list[Server]:
    return [Server("one"), Server("two"), Server("three")]


@pytest.fixture
def pool(servers: list[Server]) -> TritonPool:
    return TritonPool({f"server-{number}": server for number, server in enumerate(servers)})


async def spoken(pool: TritonPool, text: str) -> list:
    return [chunk async for chunk in pool.speak(SpeechRequest(text))]


def counts(servers: list[Server]) -> list[int]:
    return [len(server.requests) for server in servers]


async def test_equally_busy_servers_take_turns(pool: TritonPool, servers: list[Server]) -> None:
    for _ in range(6):
        await spoken(pool, "Hello.")
    assert counts(servers) == [2, 2, 2]


async def test_the_least_busy_server_speaks_next(pool: TritonPool, servers: list[Server]) -> None:
    for server in servers[:2]:
        server.script("Long.", Script(hold_after=1))
    held = [pool.speak(SpeechRequest("Long.")) for _ in range(2)]
    for utterance in held:
        await anext(utterance)
    for _ in range(3):
        await spoken(pool, "Hello.")
    assert counts(servers) == [1, 1, 3]
    for utterance in held:
        await utterance.aclose()
    assert [server.active for server in servers] == [0, 0, 0]


async def test_a_server_that_is_away_is_passed_over_and_the_text_is_spoken(
    pool: TritonPool, servers: list[Server]
) -> None:
    servers[0].refusal = NotReady("away")
    for _ in range(4):
        assert await spoken(pool, "Hello.")
    assert counts(servers) == [1, 2, 2]


async def test_a_full_server_is_not_a_failed_one(pool: TritonPool, servers: list[Server]) -> None:
    servers[0].refusal = Overloaded("full")
    for _ in range(3):
        assert await spoken(pool, "Hello.")
    assert counts(servers)[0] > 1


async def test_what_is_the_callers_fault_is_not_tried_elsewhere(pool: TritonPool, servers: list[Server]) -> None:
    servers[0].refusal = InvalidRequest("no")
    with pytest.raises(InvalidRequest):
        await spoken(pool, "Hello.")
    assert counts(servers) == [1, 0, 0]


async def test_when_all_refuse_the_last_refusal_is_told(pool: TritonPool, servers: list[Server]) -> None:
    for server in servers:
        server.refusal = NotReady("away")
    with pytest.raises(NotReady, match="away"):
        await spoken(pool, "Hello.")
    assert counts(servers) == [1, 1, 1]


async def test_speech_that_has_begun_stays_with_its_server(pool: TritonPool, servers: list[Server]) -> None:
    servers[0].script("Dies.", Script(frames=1, error=BackendDied("gone")))
    with pytest.raises(BackendDied):
        await spoken(pool, "Dies.")
    assert counts(servers) == [1, 0, 0]
    await spoken(pool, "Hello.")
    assert counts(servers) == [1, 1, 0]


async def test_live_text_is_not_tried_elsewhere_since_some_may_be_gone(pool: TritonPool, servers: list[Server]) -> None:
    async def words():
        yield "more"

    servers[0].refusal = NotReady("away")
    with pytest.raises(NotReady):
        await anext(pool.speak(SpeechRequest("Live."), words()))
    assert counts(servers) == [1, 0, 0]


async def test_the_pool_describes_itself_as_one_larger_server(pool: TritonPool, servers: list[Server]) -> None:
    described = await pool.describe()
    assert described.capacity == 36
    assert described.details["limits"]["max_frames"] == 100
    assert described.details["active"] == 3
    assert described.instance == "one+three+two"


async def test_a_failed_server_is_asked_aside_and_comes_back_when_it_answers(
    pool: TritonPool, servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.triton_pool.FIRST_PAUSE_S", 0.0)
    well = servers[0].description
    servers[0].description = NotReady("away")
    assert (await pool.describe()).capacity == 24
    servers[0].described.clear()
    await pool.describe()
    await asyncio.wait_for(servers[0].described.wait(), 30)
    servers[0].description = well
    async with asyncio.timeout(30):
        while (await pool.describe()).capacity != 36:
            servers[0].described.clear()
            await servers[0].described.wait()
    await spoken(pool, "Hello.")


async def test_a_failed_server_is_asked_less_and_less_often(pool: TritonPool, servers: list[Server]) -> None:
    servers[0].description = NotReady("away")
    for _ in range(5):
        await pool.describe()
        await asyncio.sleep(0)
    assert servers[0].descriptions == 1
    assert servers[1].descriptions == 5


async def test_a_server_that_stays_away_for_hours_is_still_asked_and_comes_back(
    pool: TritonPool, servers: list[Server]
) -> None:
    well = [server.description for server in servers]
    for server in servers:
        server.description = NotReady("away")
    for _ in range(1_100):  # a question a second, for eighteen minutes: two to this power is no number of seconds
        with pytest.raises(NotReady, match="away"):
            await pool.describe()
    servers[0].description = well[0]
    assert (await pool.describe()).capacity == 12
    await spoken(pool, "Hello.")


async def test_when_none_lives_that_is_said_and_all_are_asked_again(pool: TritonPool, servers: list[Server]) -> None:
    for server in servers:
        server.description = NotReady("away")
    for _ in range(2):
        with pytest.raises(NotReady, match="away"):
            await pool.describe()
    assert [server.descriptions for server in servers] == [2, 2, 2]


async def test_the_state_of_the_best_server_is_that_of_all(pool: TritonPool, servers: list[Server]) -> None:
    servers[0].status = NotReady("unreachable")
    servers[1].status = ModelStatus(ModelState.FAILED, "no memory")
    servers[2].status = ModelStatus(ModelState.LOADING)
    assert (await pool.model_status()).state is ModelState.LOADING
    for server in servers:
        server.status = NotReady("unreachable")
    with pytest.raises(NotReady):
        await pool.model_status()


async def test_closing_the_pool_closes_every_server(pool: TritonPool, servers: list[Server]) -> None:
    await pool.close()
    assert all(server.closed for server in servers)


async def test_over_real_streams_a_server_that_goes_away_is_done_without_and_used_again() -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(bytes(3840), {"reason": "complete"})

    doubles = [TritonDouble(), TritonDouble()]
    for double in doubles:
        double.behaviour = speak
    async with serving(doubles[0]) as staying:
        async with serving(doubles[1]) as leaving:
            limits = {"describe_timeout_s": 2.0, "accept_s": 5.0, "probe_s": 1.0, "stall_s": 10.0}
            pool = TritonPool({url: TritonSpeech(url, "qwen3_tts", **limits) for url in (staying, leaving)})
            for _ in range(4):
                assert await spoken(pool, "Hello.")
            assert [len(double.streams) for double in doubles] == [2, 2]
        for _ in range(4):
            assert await spoken(pool, "Hello.")
        assert len(doubles[0].streams) == 6
        async with serving(doubles[1], leaving):
            async with asyncio.timeout(30):
                while len(doubles[1].streams) < 3:
                    await pool.describe()
                    await spoken(pool, "Hello.")
        await pool.close()
