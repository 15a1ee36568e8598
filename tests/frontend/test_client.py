"""The Python client against a real server: it speaks, streams text, cancels, and comes back."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from frontend.client import Audio, ConnectionLost, NotConnected, OldServer, Refused, SpeechClient
from frontend.errors import InferenceFailed
from frontend.heard import Utterance
from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script, audio_of, live_audio_of

TAGGED = {"encoding": "pcm_s16le", "framing": "tagged"}


def url(server: RunningServer) -> str:
    return f"ws://{server.address}/api/v1/speak"


async def sound(utterance: Utterance) -> bytes:
    return b"".join([payload async for payload in utterance.audio()])


async def test_an_utterance_is_its_audio_and_events(server: RunningServer) -> None:
    async with SpeechClient(url(server), voice="ryan") as client:
        assert client.ready["voice"] == "ryan"
        utterance = await client.speak("Hello.")
        kinds = [arrived if isinstance(arrived, Audio) else arrived.type async for arrived in utterance]
        audio = b"".join(kind.payload for kind in kinds if isinstance(kind, Audio))
        assert audio == audio_of("Hello.", "ryan")
        assert [kind for kind in kinds if isinstance(kind, str)] == ["audio_start", "mark", "audio_end"]
        assert utterance.audio_end["samples"] == 5760


async def test_small_pieces_of_text_are_sent_as_few(server: RunningServer, speech: FakeSpeech) -> None:
    text = "Word after word, many more than a server takes as messages."
    async with SpeechClient(url(server)) as client:
        for _ in range(3):
            utterance = await client.speak("", final=False)
            for character in text:
                await utterance.append(character)
            await utterance.end()
            assert await sound(utterance) == live_audio_of(text)


async def test_a_flush_is_heard_of(server: RunningServer) -> None:
    async with SpeechClient(url(server)) as client:
        utterance = await client.speak("One.", final=False)
        await utterance.flush()
        async for arrived in utterance:
            if not isinstance(arrived, Audio) and arrived.type == "flushed":
                assert arrived.fields["sample_end"] == 4 * 1920
                await utterance.end()
        assert utterance.audio_end["reason"] == "complete"


async def test_a_cancel_ends_one_of_two(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Long.", Script(hold_after=1))
    async with SpeechClient(url(server), format=TAGGED, mode="concurrent") as client:
        one, two = await client.speak("Long."), await client.speak("Hello.")
        assert await sound(two) == audio_of("Hello.")
        await one.cancel(played_ms=10)
        assert await sound(one) == audio_of("Long.")[: 2 * 1920]
        assert (one.audio_end["reason"], one.audio_end["spoken_text"]) == ("cancelled", "Long.")


async def test_tagged_streams_are_told_apart(server: RunningServer) -> None:
    texts = [f"Text {number}." for number in range(6)]
    async with SpeechClient(url(server), format=TAGGED, mode="concurrent") as client:
        utterances = [await client.speak(text) for text in texts]
        assert await asyncio.gather(*map(sound, utterances)) == [audio_of(text) for text in texts]


async def test_a_refusal_and_a_failure_are_raised(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Fail.", Script(frames=1, error=InferenceFailed("bad")))
    async with SpeechClient(url(server)) as client:
        with pytest.raises(Refused, match="TEXT_EMPTY: text is blank") as caught:
            await sound(await client.speak(" "))
        assert (caught.value.recoverable, caught.value.retry_after_ms) == (True, None)
        utterance = await client.speak("Fail.")
        with pytest.raises(Refused, match="TTS_INFERENCE_FAILED: bad"):
            await sound(utterance)
        assert utterance.audio_end["samples"] == 1920
        assert await sound(await client.speak("Hello.")) == audio_of("Hello.")


async def test_after_a_restart_of_the_server_the_next_utterance_has_a_new_connection(speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(hold_after=1))
    async with Restarted(speech) as world:
        utterance = await world.client.speak("Long.")
        await anext(utterance.audio())
        await world.restart()
        await sound(utterance)
        assert utterance.audio_end["reason"] == "draining"
        script.go.set()
        assert await sound(await world.client.speak("Hello.")) == audio_of("Hello.")


class Restarted:
    """A server that can be started anew on its port, and a client of it."""

    def __init__(self, speech: FakeSpeech) -> None:
        self.speech = speech

    async def __aenter__(self) -> "Restarted":
        self.first = AsyncExitStack()
        self.second = AsyncExitStack()
        server = await self.first.enter_async_context(running_server(self.speech, drain_s=0.1))
        self.port = int(server.address.rsplit(":", 1)[1])
        self.client = await self.second.enter_async_context(SpeechClient(url(server)))
        return self

    async def restart(self) -> None:
        await self.first.aclose()
        self.restarting = asyncio.create_task(self._start_later())

    async def _start_later(self) -> None:
        await asyncio.sleep(0.2)  # the client must find nobody at first
        await self.second.enter_async_context(running_server(self.speech, port=self.port))

    async def __aexit__(self, *error: object) -> None:
        await self.client.close()
        await self.second.aclose()


async def test_a_lost_connection_ends_what_was_on_it() -> None:
    async def greet_and_leave(connection: ServerConnection) -> None:
        await connection.send('{"type":"ready"}')
        await connection.recv()
        connection.transport.abort()

    async with serve(greet_and_leave, "127.0.0.1", 0, subprotocols=[Subprotocol("speak.v2")]) as server:
        port = server.sockets[0].getsockname()[1]
        async with SpeechClient(f"ws://127.0.0.1:{port}/") as client:
            with pytest.raises(ConnectionLost, match="the connection was lost"):
                await sound(await client.speak("Hello."))


async def test_nobody_there_is_not_connected() -> None:
    with pytest.raises(NotConnected, match="cannot reach"):
        await SpeechClient("ws://127.0.0.1:9/").__aenter__()
    with pytest.raises(NotConnected, match="is not a WebSocket address"):
        await SpeechClient("nonsense").__aenter__()


async def test_a_server_of_protocol_1_alone_is_told_apart() -> None:
    async def nothing(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(nothing, "127.0.0.1", 0) as old:
        port = old.sockets[0].getsockname()[1]
        with pytest.raises(OldServer):
            await SpeechClient(f"ws://127.0.0.1:{port}/").__aenter__()
