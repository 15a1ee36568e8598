"""How a v2 socket carries sound: framings, rates, pieces, and how far ahead of the listener."""

import asyncio
import json

import pytest

from frontend.framing import Tagged, TaggedFrame, read_tagged
from tests.frontend.conftest import RunningServer, running_server
from tests.frontend.fakes import FRAME_BYTES, FakeSpeech, Script, audio_of
from tests.frontend.v2 import v2_client


async def test_speech_is_sent_no_further_ahead_than_allowed(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=10))
    async with running_server(speech, max_ahead_s=0.4) as server, v2_client(server) as client:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        await client.speak("Long.", "u1")
        await client.ended("u1")
        assert loop.time() - asked_at >= 0.4  # of 0.8 s of speech


async def test_a_shutdown_does_not_wait_until_speech_is_due(speech: FakeSpeech) -> None:
    speech.script("Long.", Script(frames=200))
    async with running_server(speech, max_ahead_s=0.2) as server, v2_client(server) as client:
        await client.speak("Long.", "u1")
        await client.audio()
        server.drain.signal()
        async with asyncio.timeout(10):  # of 16 s of speech
            assert (await client.ended("u1")).audio == audio_of("Long.", frames=200)


async def test_opus_packets_are_frames_of_20_ms(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Hello.", Script(frames=5))
    async with v2_client(server, format={"encoding": "opus", "framing": "tagged"}) as client:
        await client.speak("Hello.", "u1")
        heard = await client.ended("u1")
        packets = [event for event in heard.events if isinstance(event, bytes)]
        assert heard.terminal["samples"] == len(packets) * 480
        assert len(packets) in (20, 21)


def test_the_offset_of_a_frame_begins_anew_where_its_four_bytes_end() -> None:
    frame, ending = Tagged(7).frame(b"ab", 2**32 + 5), Tagged(7).ending(2**32 + 6)
    assert read_tagged(frame) == TaggedFrame(7, 5, False, b"ab")
    assert read_tagged(ending) == TaggedFrame(7, 6, True, b"")


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


async def test_frames_are_written_in_pieces_of_at_most_160_ms(server: RunningServer, speech: FakeSpeech) -> None:
    speech.script("Hello.", Script(frames=5, frames_per_chunk=5))
    async with v2_client(server) as client:
        await client.speak("Hello.", "u1")
        heard = await client.ended("u1")
        assert all(len(frame) <= 2 * FRAME_BYTES for frame in heard.events if isinstance(frame, bytes))
        assert json.dumps(heard.terminal)
