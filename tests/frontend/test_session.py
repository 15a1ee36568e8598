"""What a session does over time: order, cancel, stop, limits, and that it leaves nothing behind."""

import asyncio
import json
import random
from contextlib import AsyncExitStack

import pytest

from tests.frontend.conftest import PATIENCE_S, Client, RunningServer, running_server
from tests.frontend.fakes import FRAME_BYTES, FakeSpeech, Script, audio_of


def is_cancelled(frame: str | bytes) -> bool:
    assert isinstance(frame, str)
    message = json.loads(frame)
    assert message["type"] == "audio_end"
    return message["cancelled"]


async def begun(client: Client, speech: FakeSpeech, text: str = "Long.", **fields: object) -> Script:
    """An utterance that has sent one frame and makes no more until `go`."""
    script = speech.script(text, Script(frames=50, hold_after=1))
    await client.speak(text, **fields)
    assert await client.receive() == audio_of(text, frames=50)[:FRAME_BYTES]
    await script.held.wait()
    return script


async def test_speaks_are_served_in_order_one_at_a_time(client: Client, speech: FakeSpeech) -> None:
    script = await begun(client, speech)
    texts = [f"Text {number}." for number in range(8)]
    for text in texts:
        await client.speak(text)
    await client.speak("One too many.")
    # The refusal of the ninth waiting one overtakes, since it waits for nothing.
    refusal = json.loads(await client.receive())
    assert refusal["code"] == "TTS_NOT_READY"
    assert refusal["message"] == "8 utterances wait on this socket, the limit is 8"
    assert speech.active == 1
    assert len(speech.requests) == 1
    script.go.set()
    assert not is_cancelled((await client.utterance())[1])
    for text in texts:
        audio, terminal = await client.utterance()
        assert audio == audio_of(text)
        assert not is_cancelled(terminal)


async def test_cancel_frees_the_slot_before_it_is_answered(client: Client, speech: FakeSpeech) -> None:
    await begun(client, speech)
    await client.send(type="cancel")
    assert is_cancelled(await client.receive())
    assert speech.active == 0
    await client.speak("Next.")
    assert (await client.utterance())[0] == audio_of("Next.")


async def test_cancel_ends_the_active_and_every_waiting_one_in_order(client: Client, speech: FakeSpeech) -> None:
    await begun(client, speech, request_id="0")
    for number in range(1, 4):
        await client.speak("Waiting.", request_id=str(number))
    await client.send(type="cancel")
    for number in range(4):
        frame = await client.receive()
        assert is_cancelled(frame)
        assert json.loads(frame)["request_id"] == str(number)
    assert [request.text for request in speech.requests] == ["Long."]


async def test_a_speak_right_behind_a_cancel_is_served_even_if_the_queue_was_full(
    client: Client, speech: FakeSpeech
) -> None:
    await begun(client, speech)
    for _ in range(8):
        await client.speak("Waiting.")
    await client.send(type="cancel")
    await client.speak("After.")
    for _ in range(9):
        assert is_cancelled(await client.receive())
    audio, terminal = await client.utterance()
    assert audio == audio_of("After.")
    assert not is_cancelled(terminal)


async def test_cancel_on_an_idle_socket_answers_nothing(client: Client) -> None:
    await client.send(type="cancel")
    await client.speak("Hello.")
    await client.utterance()
    await client.send(type="cancel")
    await client.send(type="cancel")
    await client.speak("Hello.")
    assert await client.receive() == audio_of("Hello.")[:FRAME_BYTES]


async def test_cancel_before_the_first_frame_is_answered_alone(client: Client, speech: FakeSpeech) -> None:
    script = speech.script("Long.", Script(hold_after=0))
    await client.speak("Long.")
    await script.held.wait()
    await client.send(type="cancel")
    assert is_cancelled(await client.receive())


async def test_cancel_drops_audio_that_was_not_written_yet(client: Client, speech: FakeSpeech) -> None:
    # 2,000 frames are 7.7 MB: the client does not read, so most of them stay on the server's side.
    speech.script("Long.", Script(frames=2000))
    await client.speak("Long.")
    await client.receive()
    await client.send(type="cancel")
    audio, terminal = await client.utterance()
    assert is_cancelled(terminal)
    assert len(audio) < 1900 * FRAME_BYTES
    assert speech.active == 0


async def test_a_message_is_answered_while_speech_is_being_made(client: Client, speech: FakeSpeech) -> None:
    script = await begun(client, speech)
    await client.send(type="sing")
    assert json.loads(await client.receive())["code"] == "INVALID_MESSAGE"
    script.go.set()
    assert not is_cancelled((await client.utterance())[1])


async def test_stop_cancels_all_and_closes_1000_without_a_message(
    server: RunningServer, client: Client, speech: FakeSpeech
) -> None:
    await begun(client, speech)
    await client.speak("Waiting.")
    await client.send(type="stop")
    assert await client.closed() == (1000, "")
    with pytest.raises(EOFError):
        await anext(aiter_frames(client))
    await server.all_closed()
    assert speech.active == 0


async def aiter_frames(client: Client):
    async for frame in client.connection:
        yield frame
    raise EOFError


async def test_a_lost_socket_frees_the_slot(
    server: RunningServer, speech: FakeSpeech, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with server.client() as client:
        await begun(client, speech)
        await client.speak("Waiting.")
        client.connection.transport.abort()
        await asyncio.wait_for(speech.released.wait(), PATIENCE_S)
    await server.all_closed()
    assert speech.active == 0
    assert len(speech.requests) == 1
    assert caplog.text.count('reason="lost"') == 2


async def test_eight_sockets_at_once_each_get_exactly_their_own_audio(
    server: RunningServer, speech: FakeSpeech
) -> None:
    texts = [f"Socket {number}." for number in range(8)]
    scripts = [speech.script(text, Script(frames=40, hold_after=20)) for text in texts]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for _ in texts]
        for client, text in zip(clients, texts, strict=True):
            await client.speak(text)
        for script in scripts:
            await script.held.wait()
        assert speech.active == 8
        for script in scripts:
            script.go.set()
        for client, text in zip(clients, texts, strict=True):
            assert (await client.utterance())[0] == audio_of(text, frames=40)


async def test_a_socket_leaves_no_task_behind(server: RunningServer, speech: FakeSpeech) -> None:
    await server.get("/healthz")  # everything that lives as long as the server runs now
    before = asyncio.all_tasks()
    for ending in ("stop", "abort", "close"):
        async with server.client() as client:
            await begun(client, speech)
            await client.speak("Waiting.")
            if ending == "stop":
                await client.send(type="stop")
                await client.closed()
            elif ending == "abort":
                client.connection.transport.abort()
    await server.all_closed()
    ours = [task for task in asyncio.all_tasks() - before if "frontend" in str(task.get_coro().cr_code.co_filename)]
    assert ours == []
    assert speech.active == 0


async def test_a_client_that_does_not_read_is_bounded_and_closed_with_1013(speech: FakeSpeech) -> None:
    frames = 4000  # 15 MB, far beyond every buffer between the two ends
    speech.script("Long.", Script(frames=frames))
    async with running_server(speech, send_timeout_s=0.3, max_audio_s=1000) as server, server.client() as client:
        client.connection.transport.pause_reading()
        await client.speak("Long.")
        await asyncio.wait_for(speech.released.wait(), PATIENCE_S)
        assert speech.frames_made < frames - 100
        client.connection.transport.resume_reading()
        code, reason = await client.closed()
        assert code == 1013
        assert reason == "slow consumer: a send took longer than 0.3 s"
        await server.all_closed()


async def test_an_utterance_is_cut_at_the_longest_audio(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=50))
    async with running_server(speech, max_audio_s=0.2) as server, server.client() as client:
        await client.speak("Long.")
        audio, terminal = await client.utterance()
        assert audio == audio_of("Long.", frames=50)[: 4800 * 2]
        assert not is_cancelled(terminal)
        assert speech.active == 0


async def test_messages_beyond_the_rate_are_refused_but_cancel_is_not(speech: FakeSpeech) -> None:
    async with running_server(speech, message_burst=3, message_rate_per_s=0.001) as server, server.client() as client:
        script = await begun(client, speech)
        for _ in range(3):
            await client.send(type="sing")
        answers = [json.loads(await client.receive()) for _ in range(3)]
        assert [answer["code"] for answer in answers] == ["INVALID_MESSAGE", "INVALID_MESSAGE", "TTS_NOT_READY"]
        assert answers[2]["message"] == "too many messages, the limit is 0.001 per second, 3 at once"
        await client.send(type="cancel")
        assert is_cancelled(await client.receive())
        assert not script.go.is_set()


async def test_a_flood_of_any_kind_closes_with_1008(speech: FakeSpeech) -> None:
    async with running_server(speech, flood_rate_per_s=20) as server, server.client() as client:
        for _ in range(30):
            await client.connection.send(b"\x00")
        assert await client.closed() == (1008, "more than 20 messages per second")


async def test_an_idle_socket_is_closed_with_4408_but_not_while_it_speaks(speech: FakeSpeech) -> None:
    async with running_server(speech, idle_timeout_s=1) as server, server.client() as client:
        script = await begun(client, speech)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.connection.recv(), 1.2)
        script.go.set()
        await client.utterance()
        assert await client.closed() == (4408, "idle for 1 s")


async def test_an_old_session_is_told_of_its_cancelled_utterance_and_closed_with_4409(speech: FakeSpeech) -> None:
    async with running_server(speech, max_session_s=1) as server, server.client() as client:
        await begun(client, speech)
        assert is_cancelled(await client.receive())
        assert await client.closed() == (4409, "the session is older than 1 s")


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_the_order_every_speak_gets_exactly_one_terminal(speech: FakeSpeech, seed: int) -> None:
    dice = random.Random(seed)
    async with running_server(speech, max_waiting=3, message_burst=1000) as server, server.client() as client:
        asked, answered, audio = [], [], b""
        for number in range(dice.randrange(1, 25)):
            action = dice.choice(["speak", "speak", "speak", "cancel", "wait", "wait"])
            if action == "speak":
                asked.append(f"Text {number}.")
                script = speech.script(asked[-1], Script(frames=dice.randrange(4), hold_after=dice.choice([None, 1])))
                await client.speak(asked[-1], request_id=asked[-1])
                asyncio.get_running_loop().call_later(dice.random() * 0.005, script.go.set)
            elif action == "cancel":
                await client.send(type="cancel")
            else:
                await asyncio.sleep(dice.random() * 0.004)
        while len(answered) < len(asked):
            frame = await client.receive()
            if isinstance(frame, bytes):
                audio += frame
                continue
            message = json.loads(frame)
            answered.append(message["request_id"])
            if message["type"] == "audio_end":
                whole = audio_of(answered[-1], frames=speech.scripts[answered[-1]].frames)
                assert whole.startswith(audio) if message["cancelled"] else whole == audio
                audio = b""
            else:
                assert message["code"] == "TTS_NOT_READY"
        await client.send(type="stop")
        assert await client.closed() == (1000, "")
        assert sorted(answered) == sorted(asked)
        await server.all_closed()
        assert speech.active == 0


async def test_an_endless_name_of_a_voice_is_unknown_like_any_other_and_does_not_travel(
    client: Client, speech: FakeSpeech
) -> None:
    await client.speak("Hello.", voice="x" * 30_000, language="y" * 30_000)
    assert (await client.utterance())[0] == audio_of("Hello.")
    assert [len(request.voice or "") for request in speech.requests] == [256, 0]
    assert {len(request.language or "") for request in speech.requests} == {256}
