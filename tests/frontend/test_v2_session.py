"""What a v2 session does over time: modes, cancel in every state, framings, limits, and that it leaves nothing."""

import asyncio
import json

import pytest

from frontend.errors import InferenceFailed
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import FRAME_BYTES, FakeSpeech, Script, audio_of, live_audio_of
from tests.frontend.v2 import V2Client, v2_client

TAGGED = {"encoding": "pcm_s16le", "framing": "tagged"}


async def begun(
    client: V2Client, speech: FakeSpeech, text: str = "Long.", name: str = "u1", **fields: object
) -> Script:
    """A request that has sent one frame and makes no more until `go`."""
    script = speech.script(text, Script(frames=50, hold_after=1))
    await client.speak(text, name, **fields)
    await client.audio()
    await script.held.wait()
    return script


@pytest.mark.parametrize("ids", [{}, {"request_id": "u1"}])
@pytest.mark.parametrize("frames", [0, 1, 5])
async def test_a_cancel_while_it_is_spoken_frees_the_slot_before_it_is_answered(
    server: RunningServer, speech: FakeSpeech, ids: dict[str, str], frames: int
) -> None:
    script = speech.script("Long.", Script(frames=50, hold_after=frames))
    async with v2_client(server) as client:
        await client.speak("Long.", "u1")
        for _ in range(frames):
            await client.audio()
        await script.held.wait()
        await client.send(type="cancel", **ids)
        heard = await client.ended("u1")
        assert speech.active == 0
        assert (heard.terminal["reason"], heard.terminal["cancelled"]) == ("cancelled", True)
        assert heard.terminal["samples"] == frames * 1920
        assert (heard.terminal["ttfa_ms"] is None) == (frames == 0)


async def test_a_waiting_request_is_cancelled_alone(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        script = await begun(client, speech)
        await client.speak("Two.", "u2")
        await client.speak("Three.", "u3")
        await client.send(type="cancel", request_id="u2")
        heard = await client.ended("u2")
        assert heard.types == ["queued", "audio_end"]
        assert heard.terminal["samples"] == 0
        assert speech.active == 1
        script.go.set()
        assert (await client.ended("u3")).audio == audio_of("Three.")
        assert client.requests["u1"].terminal["reason"] == "complete"
        assert [request.text for request in speech.requests] == ["Long.", "Three."]


@pytest.mark.parametrize("text", ["", "Hello"])
@pytest.mark.parametrize("last", [None, "flush", "end"])
async def test_live_text_is_cancelled_while_it_waits_and_after_its_end(
    server: RunningServer, speech: FakeSpeech, text: str, last: str | None
) -> None:
    script = speech.script(text, Script(hold_after=2))
    async with v2_client(server) as client:
        await client.speak(text, "u1", final=False)
        if text:
            await script.held.wait()
        if last is not None and text:
            await client.send(type=last, request_id="u1")
        await client.send(type="ping")
        await client.until("pong")
        await client.send(type="cancel", request_id="u1")
        assert (await client.ended("u1")).terminal["reason"] == "cancelled"
        assert speech.active == 0


async def test_cancelling_what_is_not_there_says_nothing(server: RunningServer) -> None:
    async with v2_client(server) as client:
        await client.send(type="cancel")
        await client.send(type="cancel", request_id="nobody")
        await client.speak("Hello.", "u1")
        await client.ended("u1")
        await client.send(type="cancel", request_id="u1")
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}


async def test_what_was_heard_is_what_the_cancel_said_that_ended_it(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.send(type="cancel", request_id="u1", played_ms=50)
        await client.send(type="cancel")
        assert (await client.ended("u1")).terminal["spoken_text"] == "Long."


async def test_a_cancel_tells_what_was_heard_when_it_is_asked(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Two.", "u2")
        await client.send(type="cancel", played_ms=50)
        assert (await client.ended("u1")).terminal["spoken_text"] == "Long."
        assert (await client.ended("u2")).terminal["spoken_text"] == ""


async def test_a_cancel_takes_back_what_was_not_written(server: RunningServer, speech: FakeSpeech) -> None:
    # Paced: of 160 s of speech that are made at once only 10 s are sent.
    speech.script("Long.", Script(frames=2000))
    async with v2_client(server) as client:
        await client.speak("Long.", "u1")
        await client.audio()
        await client.send(type="cancel")
        heard = await client.ended("u1")
        assert heard.terminal["samples"] <= 10.1 * 24000
        assert speech.active == 0


async def test_speech_is_sent_no_further_ahead_than_allowed(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=10))
    async with running_server(speech, max_ahead_s=0.4) as server, v2_client(server) as client:
        loop = asyncio.get_running_loop()
        await client.speak("Long.", "u1")
        await client.audio()
        begun_at = loop.time()
        await client.ended("u1")
        assert loop.time() - begun_at >= 0.38  # 0.8 s of speech


async def test_a_shutdown_does_not_wait_until_speech_is_due(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=200))
    async with running_server(speech, max_ahead_s=0.2) as server, v2_client(server) as client:
        await client.speak("Long.", "u1")
        await client.audio()
        server.drain.signal()
        async with asyncio.timeout(10):  # of 16 s of speech
            assert (await client.ended("u1")).audio == audio_of("Long.", frames=200)


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


async def test_opus_packets_are_frames_of_20_ms(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Hello.", Script(frames=5))
    async with v2_client(server, format={"encoding": "opus", "framing": "tagged"}) as client:
        await client.speak("Hello.", "u1")
        heard = await client.ended("u1")
        packets = [event for event in heard.events if isinstance(event, bytes)]
        assert heard.terminal["samples"] == len(packets) * 480
        assert len(packets) in (20, 21)


async def test_a_wav_header_is_a_frame_of_its_own_at_offset_0(server: RunningServer) -> None:
    async with v2_client(server, format={"encoding": "wav", "sample_rate": 24000, "framing": "tagged"}) as client:
        await client.speak("Hello.", "u1")
        heard = await client.ended("u1")
        header = next(event for event in heard.events if isinstance(event, bytes))
        assert (header[:4], len(header)) == (b"RIFF", 44)
        assert heard.audio[44:] == audio_of("Hello.")
        assert heard.terminal["samples"] == 5760


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
async def test_other_sample_rates_have_their_number_of_samples(server: RunningServer, rate: int) -> None:
    async with v2_client(server) as client:
        await client.speak("Hello.", "u1", format={"sample_rate": rate})
        assert (await client.ended("u1")).terminal["samples"] == 5760 * rate // 24000


async def test_start_may_change_everything_while_nothing_is_asked_for(
    server: RunningServer, speech: FakeSpeech
) -> None:
    async with v2_client(server, voice="ryan") as client:
        script = await begun(client, speech)
        await client.send(type="start", protocol=2)
        assert (await client.until("error"))["message"] == "`start` may come only while there is no request"
        script.go.set()
        assert (await client.ended("u1")).audio == audio_of("Long.", "ryan", 50)
        await client.send(type="start", protocol=2)
        assert (await client.until("ready"))["voice"] == "makima"


async def test_stop_gives_every_request_its_terminal_and_closes_1000(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Two.", "u2")
        await client.send(type="stop")
        assert await client.closed() == (1000, "")
        assert [client.requests[name].terminal["reason"] for name in ("u1", "u2")] == ["cancelled"] * 2
    await server.all_closed()
    assert speech.active == 0


async def test_stop_with_drain_speaks_to_the_end_and_takes_nothing_new(
    server: RunningServer, speech: FakeSpeech
) -> None:
    async with v2_client(server) as client:
        script = await begun(client, speech)
        await client.speak("Two", "u2", final=False)
        await client.send(type="stop", drain=True)
        await client.speak("Three.", "u3")
        assert (await client.ended("u3")).terminal["code"] == "TTS_NOT_READY"
        await client.send(type="text", request_id="u2", text=".")
        await client.send(type="end", request_id="u2")
        script.go.set()
        assert await client.closed() == (1000, "")
        assert client.requests["u2"].audio == live_audio_of("Two.")


async def test_a_shutdown_is_told_finishes_what_runs_and_closes_1001(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        script = await begun(client, speech)
        server.drain.signal()
        assert await client.until("draining") == {"type": "draining", "deadline_ms": 20000}
        await client.speak("Two.", "u2")
        assert (await client.ended("u2")).terminal["code"] == "TTS_NOT_READY"
        script.go.set()
        assert (await client.ended("u1")).audio == audio_of("Long.", frames=50)
        assert await client.closed() == (1001, "the server is shutting down")


async def test_what_a_shutdown_cannot_wait_for_is_ended_as_draining(speech: FakeSpeech) -> None:
    async with running_server(speech, drain_s=0.1) as server, v2_client(server) as client:
        await begun(client, speech)
        server.drain.signal()
        terminal = (await client.ended("u1")).terminal
        assert (terminal["reason"], terminal["cancelled"]) == ("draining", True)
        assert (await client.closed())[0] == 1001


async def test_ten_invalid_messages_in_a_row_close_with_1008(server: RunningServer, speech: FakeSpeech) -> None:
    async with v2_client(server) as client:
        await begun(client, speech)
        for _ in range(9):
            await client.connection.send("{")
        await client.send(type="ping")
        for _ in range(10):
            await client.connection.send(b"\x00")
        assert await client.closed() == (1008, "10 invalid messages in a row")
        recoverable = [error["recoverable"] for error in client.others if error["type"] == "error"]
        assert recoverable == [True] * 18 + [False]
        assert client.requests["u1"].terminal["reason"] == "cancelled"


async def test_a_flood_is_told_and_closed_with_1008(speech: FakeSpeech) -> None:
    async with running_server(speech, flood_rate_per_s=20) as server, v2_client(server) as client:
        for _ in range(25):
            await client.send(type="ping")
        assert await client.closed() == (1008, "more than 20 messages per second")
        errors = [message for message in client.others if message["type"] == "error"]
        assert [(error["code"], error["recoverable"]) for error in errors] == [("TOO_MANY_REQUESTS", False)]


async def test_messages_beyond_the_rate_are_refused_but_not_cancel_and_ping(speech: FakeSpeech) -> None:
    async with running_server(speech, message_burst=2, message_rate_per_s=0.5) as server, v2_client(server) as client:
        await begun(client, speech)
        await client.speak("Two", "u2", final=False)
        await client.send(type="text", request_id="u2", text=".")
        error = await client.until("error")
        assert (error["code"], error["request_id"], "accepted" in error) == ("TOO_MANY_REQUESTS", "u2", False)
        assert 1000 < error["retry_after_ms"] <= 2000
        await client.speak("Three.", "u3")
        assert (await client.ended("u3")).terminal["accepted"] is False
        await client.send(type="ping")
        await client.until("pong")
        await client.send(type="cancel")
        await client.ended("u1")


async def test_an_idle_socket_is_told_and_closed_with_4408(speech: FakeSpeech) -> None:
    async with running_server(speech, idle_timeout_s=0.2) as server, v2_client(server) as client:
        assert await client.closed() == (4408, "idle for 0.2 s")
        assert client.others[-1]["code"] == "IDLE_TIMEOUT"


async def test_an_old_session_is_told_and_closed_with_4409(speech: FakeSpeech) -> None:
    async with running_server(speech, max_session_s=1) as server, v2_client(server) as client:
        await begun(client, speech)
        assert await client.closed() == (4409, "the session is older than 1 s")
        assert client.requests["u1"].terminal["reason"] == "cancelled"


async def test_text_that_never_comes_ends_the_request(speech: FakeSpeech) -> None:
    async with running_server(speech, text_idle_s=0.1) as server, v2_client(server) as client:
        await client.speak("", "u1", final=False)
        terminal = (await client.ended("u1")).terminal
        assert (terminal["reason"], terminal["cancelled"]) == ("timeout", False)


async def test_a_client_that_does_not_read_is_closed_with_1013(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=4000))
    settings = {"send_timeout_s": 0.3, "max_audio_s": 1000, "max_ahead_s": 1000}
    async with running_server(speech, **settings) as server, v2_client(server) as client:
        client.connection.transport.pause_reading()
        await client.speak("Long.", "u1")
        await asyncio.wait_for(speech.released.wait(), PATIENCE_S)
        assert speech.frames_made < 3900
        client.connection.transport.resume_reading()
        assert await client.closed() == (1013, "slow consumer: a send took longer than 0.3 s")


@pytest.mark.parametrize("ending", ["stop", "abort", "close"])
@pytest.mark.parametrize("state", ["idle", "speaking", "queued", "live", "silent", "concurrent"])
async def test_no_task_and_no_slot_is_left_however_a_socket_ends(
    server: RunningServer, speech: FakeSpeech, ending: str, state: str
) -> None:
    await server.get("/healthz")
    before = asyncio.all_tasks()
    speech.script("Live", Script(hold_after=2))
    async with v2_client(server, format=TAGGED) as client:
        if state != "idle":
            await begun(client, speech)
        if state in ("queued", "live", "silent"):
            await client.speak({"queued": "Next.", "live": "Live", "silent": ""}[state], "u2", final=state == "queued")
        if state == "concurrent":
            await begun(client, speech, "Other.", "u3", mode="concurrent")
        if ending == "stop":
            await client.send(type="stop")
            await client.closed()
        elif ending == "abort":
            client.connection.transport.abort()
    await server.all_closed()
    ours = [task for task in asyncio.all_tasks() - before if "frontend" in str(task.get_coro().cr_code.co_filename)]
    assert ours == []
    assert speech.active == 0


async def test_a_cancel_during_a_failure_is_still_one_terminal(server: RunningServer, speech: FakeSpeech) -> None:
    for number in range(20):
        name = f"u{number}"
        speech.script(name, Script(frames=2, error=InferenceFailed("bad")))
        async with v2_client(server) as client:
            await client.speak(name, name)
            await asyncio.sleep(number * 0.0005)
            await client.send(type="cancel")
            heard = await client.ended(name)
            assert heard.terminal["reason"] in ("failed", "cancelled")
            await client.send(type="stop")
            assert await client.closed() == (1000, "")


async def test_the_text_is_never_logged(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with v2_client(server) as client:
        await client.speak("Secret.", "u1")
        await client.ended("u1")
        await client.send(type="stop")
        await client.closed()
    assert "Secret" not in caplog.text
    line = next(record.getMessage() for record in caplog.records if "request=" in record.getMessage())
    for fact in ('request="u1"', 'format="pcm_s16le/24000"', 'mode="queue"', "chars=7", 'reason="complete"'):
        assert fact in line


async def test_frames_are_written_in_pieces_of_at_most_160_ms(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Hello.", Script(frames=5, frames_per_chunk=5))
    async with v2_client(server) as client:
        await client.speak("Hello.", "u1")
        heard = await client.ended("u1")
        assert all(len(frame) <= 2 * FRAME_BYTES for frame in heard.events if isinstance(frame, bytes))
        assert json.dumps(heard.terminal)
