"""`scripts/speak` as a process against a real server: the file, the figures, and one line when it fails."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from frontend.errors import InferenceFailed
from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import FakeSpeech, Script, audio_of

SCRIPTS = Path(__file__).parents[2] / "scripts"


@dataclass
class Ended:
    status: int | None
    out: str
    err: str


async def started(server: RunningServer | str, *arguments: str, path: Path | None = None) -> asyncio.subprocess.Process:
    url = server if isinstance(server, str) else f"ws://{server.address}/api/v1/speak"
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)} | ({"PATH": str(path)} if path is not None else {})
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "commands.speak", "--url", url, *arguments),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process, stdin: str | None = None) -> Ended:
    out, err = await asyncio.wait_for(process.communicate(stdin and stdin.encode()), 30)
    return Ended(process.returncode, out.decode(), err.decode())


def sound_of(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24000, 1, 2)
        return file.readframes(file.getnframes())


async def test_the_sound_is_written_and_its_figures_are_printed(server: RunningServer, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    result = await ended(await started(server, "Hello.", "--voice", "ryan", "--language", "en", "--out", str(out)))
    assert (result.status, result.err) == (0, "")
    assert sound_of(out) == audio_of("Hello.", "ryan")
    assert server.speech.requests[-1].language == "en"
    assert result.out.startswith(f"{out}: first audio after ")
    assert "ms, 0.24 s of speech, real-time factor 0." in result.out


async def test_a_dash_reads_the_text_from_the_standard_input(server: RunningServer, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    result = await ended(await started(server, "-", "--out", str(out)), "Hello\nworld.\n")
    assert result.status == 0
    assert sound_of(out) == audio_of("Hello\nworld.\n")


async def test_a_server_that_knows_only_protocol_1_is_spoken_to_in_that(tmp_path: Path) -> None:
    async def speak_v1(connection: ServerConnection) -> None:
        async for message in connection:
            assert json.loads(message) == {"type": "speak", "text": "Hello."}
            await connection.send(audio_of("Hello."))
            await connection.send('{"type":"audio_end","cancelled":false}')

    out = tmp_path / "a.wav"
    async with serve(speak_v1, "127.0.0.1", 0) as old:
        port = old.sockets[0].getsockname()[1]
        result = await ended(await started(f"ws://127.0.0.1:{port}/", "Hello.", "--out", str(out)))
    assert (result.status, result.err) == (0, "")
    assert sound_of(out) == audio_of("Hello.")


async def test_an_interrupt_cancels_and_leaves_a_valid_file(
    server: RunningServer, speech: FakeSpeech, tmp_path: Path
) -> None:
    script = speech.script("Long.", Script(frames=9, hold_after=2))
    out, partial = tmp_path / "a.wav", tmp_path / "a.partial.wav"
    process = await started(server, "Long.", "--out", str(out))
    await asyncio.wait_for(script.held.wait(), 30)
    async with asyncio.timeout(10):
        while not partial.exists() or sound_of(partial) != audio_of("Long.", frames=2):  # noqa: ASYNC110  (another's file)
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    result = await ended(process)
    assert result.status == 130
    assert result.out.endswith("(cancelled)\n")
    assert sound_of(out) == audio_of("Long.", frames=2)
    assert speech.active == 0
    assert os.listdir(tmp_path) == [out.name]


async def test_an_error_is_one_line_and_a_failure(server: RunningServer, tmp_path: Path) -> None:
    result = await ended(await started(server, "  ", "--out", str(tmp_path / "a.wav")))
    assert result == Ended(1, "", "speak: TEXT_EMPTY: text is blank\n")


async def test_a_refused_connection_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}/api/v1/speak"
        result = await ended(await started(url, "Hello.", "--out", str(tmp_path / "a.wav")))
    assert result.status == 1
    assert result.err.startswith(f"speak: cannot reach {url}: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense"])
async def test_an_address_that_is_none_is_one_line(url: str) -> None:
    result = await ended(await started(url, "Hello."))
    assert result.status == 1
    assert result.err.startswith(f"speak: {url} is not a WebSocket address")


async def test_a_file_that_cannot_be_written_is_one_line(server: RunningServer, tmp_path: Path) -> None:
    out = tmp_path / "none" / "a.wav"
    result = await ended(await started(server, "Hello.", "--out", str(out)))
    assert result == Ended(1, "", f"speak: cannot write {out}: No such file or directory\n")
    assert server.speech.requests == []


async def test_a_request_that_fails_before_its_first_sound_leaves_an_older_recording_alone(
    server: RunningServer, tmp_path: Path
) -> None:
    out = tmp_path / "a.wav"
    out.write_bytes(b"an older recording")
    result = await ended(await started(server, "  ", "--out", str(out)))
    assert (result.status, out.read_bytes()) == (1, b"an older recording")
    assert os.listdir(tmp_path) == [out.name]


async def test_what_came_before_a_failure_is_kept_under_a_name_that_says_so(
    server: RunningServer, speech: FakeSpeech, tmp_path: Path
) -> None:
    speech.script("Fail.", Script(frames=2, error=InferenceFailed("it broke")))
    out, partial = tmp_path / "a.wav", tmp_path / "a.partial.wav"
    out.write_bytes(b"an older recording")
    result = await ended(await started(server, "Fail.", "--out", str(out)))
    assert result == Ended(1, "", f"speak: TTS_INFERENCE_FAILED: it broke; what came is in {partial}\n")
    assert (out.read_bytes(), sound_of(partial)) == (b"an older recording", audio_of("Fail.", frames=2))
    result = await ended(await started(server, "Hello.", "--out", str(out)))
    assert (result.status, sound_of(out)) == (0, audio_of("Hello."))
    assert os.listdir(tmp_path) == [out.name], "what is whole takes the place of what is not"


async def test_a_link_goes_on_pointing_at_what_is_replaced(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "link.wav", tmp_path / "real" / "a.wav"
    real.write_bytes(b"an older recording")
    link.symlink_to(real)
    result = await ended(await started(server, "Hello.", "--out", str(link)))
    assert (result.status, link.is_symlink(), sound_of(real)) == (0, True, audio_of("Hello."))


async def test_a_device_is_written_to_and_not_replaced(server: RunningServer) -> None:
    result = await ended(await started(server, "Hello.", "--out", "/dev/null"))
    assert (result.status, stat.S_ISCHR(os.stat("/dev/null").st_mode)) == (0, True)


async def test_playing_pipes_the_sound_into_the_player(server: RunningServer, tmp_path: Path) -> None:
    player = tmp_path / "aplay"
    player.write_text(f"#!/bin/sh\n/bin/cat > {tmp_path}/played\n")
    player.chmod(player.stat().st_mode | stat.S_IXUSR)
    result = await ended(await started(server, "Hello.", "--play", path=tmp_path))
    assert (result.status, result.err) == (0, "")
    assert (tmp_path / "played").read_bytes() == audio_of("Hello.")


async def test_a_failed_player_is_one_line(server: RunningServer, tmp_path: Path) -> None:
    player = tmp_path / "aplay"
    player.write_text("#!/bin/sh\nexit 3\n")
    player.chmod(player.stat().st_mode | stat.S_IXUSR)
    result = await ended(await started(server, "Hello.", "--play", path=tmp_path))
    assert result == Ended(1, "", "speak: aplay ended with status 3\n")


async def test_playing_without_a_player_says_what_to_install(server: RunningServer, tmp_path: Path) -> None:
    result = await ended(await started(server, "Hello.", "--play", path=tmp_path))
    assert result.status == 1
    assert result.err == (
        "speak: playing needs one of paplay, aplay, ffplay, play, and none is installed; --out FILE writes a WAV\n"
    )
    assert server.speech.requests == []
