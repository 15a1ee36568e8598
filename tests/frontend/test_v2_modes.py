"""Many v2 requests on one socket: one behind the other, at once, or in the place of all others."""

from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import FakeSpeech, Script, audio_of
from tests.frontend.v2 import TAGGED, begun, v2_client


async def test_an_interrupt_ends_all_others_as_preempted(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Two.", "u2")
        await client.speak("Now.", "u3", mode="interrupt")
        for name in ("u1", "u2"):
            terminal = (await client.ended(name)).terminal
            assert (terminal["reason"], terminal["cancelled"]) == ("preempted", True)
        heard = await client.ended("u3")
        assert heard.audio == audio_of("Now.")
        assert "queued" not in heard.types
        assert speech.most_active == 1


async def test_a_refused_interrupt_ends_nothing(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        script = await begun(client, speech)
        await client.speak(" ", "u2", mode="interrupt")
        await client.speak("Long.", "u1", mode="interrupt")
        assert (await client.ended("u2")).terminal["code"] == "TEXT_EMPTY"
        assert (await client.until("error"))["code"] == "DUPLICATE_REQUEST"
        script.go.set()
        assert (await client.ended("u1")).terminal["reason"] == "complete"


async def test_an_interrupt_that_fails_later_was_accepted(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Now.", "u2", mode="interrupt", voice="nobody", strict_voice=True)
        assert (await client.ended("u2")).types == ["error", "audio_end"]
        assert client.requests["u1"].terminal["reason"] == "preempted"


async def test_a_full_line_refuses_with_a_time(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        for number in range(2, 11):
            await client.speak("Waiting.", f"u{number}")
        refusal = (await client.ended("u10")).terminal
        assert (refusal["code"], refusal["retry_after_ms"]) == ("TOO_MANY_REQUESTS", 1000)
        assert refusal["message"] == "8 requests wait on this socket, the limit is 8"
        await client.send(type="cancel", request_id="u2")
        await client.speak("Waiting.", "u11")
        assert (await client.until("queued", "u11"))["position"] == 8
        await client.send(type="cancel")
        for number in (1, *range(3, 10), 11):
            assert (await client.ended(f"u{number}")).terminal["reason"] == "cancelled"


async def test_four_concurrent_requests_are_spoken_at_once_and_eight_wait(
    server: RunningServer, speech: FakeSpeech
) -> None:
    async with v2_client(server, format=TAGGED, mode="concurrent") as client:
        scripts = [speech.script(f"Text {number}.", Script(frames=6, hold_after=3)) for number in range(13)]
        for number in range(13):
            await client.speak(f"Text {number}.", f"u{number}")
        assert (await client.ended("u12")).terminal["code"] == "TOO_MANY_REQUESTS"
        for script in scripts[:4]:
            await script.held.wait()
        assert speech.active == 4
        for script in scripts:
            script.go.set()
        for number in range(12):
            assert (await client.ended(f"u{number}")).audio == audio_of(f"Text {number}.", frames=6)
        assert speech.most_active == 4


async def test_eight_concurrent_requests_sound_as_each_does_alone(speech: FakeSpeech) -> None:
    texts = [f"Text number {number}." for number in range(8)]
    formats = ["pcm_s16le", "mulaw", "alaw", "wav"] * 2
    for text in texts:
        speech.script(text, Script(frames=20))
    alone = {}
    async with running_server(speech, max_active=8) as server:
        async with v2_client(server) as client:
            for text, encoding in zip(texts, formats, strict=True):
                await client.speak(text, text, format={"encoding": encoding})
                alone[text] = (await client.ended(text)).audio
        async with v2_client(server, format=TAGGED, mode="concurrent") as client:
            for text, encoding in zip(texts, formats, strict=True):
                await client.speak(text, text, format={"encoding": encoding})
            for text in texts:
                assert (await client.ended(text)).audio == alone[text]
        assert speech.most_active > 1


async def test_concurrent_streams_take_turns(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server, format=TAGGED, mode="concurrent") as client:
        for name in ("u1", "u2"):
            speech.script(name, Script(frames=24))
            await client.speak(name, name)
        await client.until("audio_end")
        other = next(heard for heard in client.requests.values() if heard.terminal is None)
        assert other.samples >= 12 * 1920


async def test_a_queued_request_may_be_spoken_beside_concurrent_ones(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server, format=TAGGED) as client:
        first = await begun(client, speech, "One.", "u1", mode="concurrent")
        second = await begun(client, speech, "Two.", "u2")
        await client.speak("Three.", "u3")
        assert (await client.until("queued"))["request_id"] == "u3"
        await client.speak("Four.", "u4", mode="concurrent")
        assert (await client.ended("u4")).audio == audio_of("Four.")
        assert client.requests["u3"].types == ["queued"]
        second.go.set()
        await client.ended("u3")
        first.go.set()
        await client.ended("u1")
