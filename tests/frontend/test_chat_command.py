"""`scripts/chat` as a process against a real server: words are spoken before the last one is written."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from frontend.errors import InferenceFailed
from tests.frontend.conftest import RunningServer
from tests.frontend.fakes import FakeSpeech, Script, live_audio_of
from tests.frontend.test_speak_command import SCRIPTS, ended, sound_of

REPOSITORY = SCRIPTS.parent


async def started(server: RunningServer, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "commands.chat", "--url", f"ws://{server.address}/api/v1/speak", *arguments),
        env=os.environ | {"PYTHONPATH": f"{SCRIPTS}:{REPOSITORY}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def heard(out: Path, samples: int) -> None:
    """Returns when so much has been written of what is to be `out`."""
    async with asyncio.timeout(30):
        while _samples(out) < samples:  # noqa: ASYNC110  (another process's file)
            await asyncio.sleep(0.01)


def _samples(out: Path) -> int:
    partial = out.with_name(f"{out.stem}.partial.wav")
    return len(sound_of(partial)) // 2 if partial.exists() else 0


async def test_what_is_piped_is_shown_and_spoken_while_it_is_written(server: RunningServer, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    process = await started(server, "--out", str(out), "--voice", "ryan")
    assert process.stdin is not None
    process.stdin.write("Grüße".encode())
    await process.stdin.drain()
    await heard(out, 5 * 1920)
    result = await ended(process, " an alle.")
    assert (result.status, result.err, result.out) == (0, "", "Grüße an alle.")
    assert sound_of(out) == live_audio_of("Grüße an alle.", "ryan")


async def test_a_writer_that_pauses_for_long_begins_a_new_utterance(
    server: RunningServer, speech: FakeSpeech, tmp_path: Path
) -> None:
    speech.text_idle_s = 0.05
    out = tmp_path / "a.wav"
    process = await started(server, "--out", str(out))
    assert process.stdin is not None
    process.stdin.write(b"One.")
    await heard(out, 4 * 1920)
    await asyncio.wait_for(speech.released.wait(), 30)
    await asyncio.sleep(0.5)  # the other process, which shows nobody that it has, must have heard of it
    result = await ended(process, "Two.")
    assert result.status == 0
    assert sound_of(out) == live_audio_of("One.") + live_audio_of("Two.")


async def test_a_conversation_that_fails_leaves_an_older_recording_alone(
    server: RunningServer, speech: FakeSpeech, tmp_path: Path
) -> None:
    speech.script("One.", Script(error=InferenceFailed("it broke")))
    out, partial = tmp_path / "a.wav", tmp_path / "a.partial.wav"
    out.write_bytes(b"an older recording")
    result = await ended(await started(server, "--out", str(out)), "One.")
    assert (result.status, result.err) == (
        1,
        f"chat: TTS_INFERENCE_FAILED: it broke; what came is in {partial}\n",
    )
    assert (out.read_bytes(), sound_of(partial)) == (b"an older recording", live_audio_of("One."))


async def test_an_interrupt_cancels(server: RunningServer, speech: FakeSpeech, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    process = await started(server, "--out", str(out))
    assert process.stdin is not None
    process.stdin.write(b"One.")
    await heard(out, 4 * 1920)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 30) == 130
    assert speech.active == 0
