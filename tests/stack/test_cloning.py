"""Cloned voices through the whole stack: from a folder, from a request, unknown ones, and one added meanwhile."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tritonclient.utils import InferenceServerException
from websockets.asyncio.client import connect

from commands import voices as voices_command
from tests.conftest import Demo, Figure
from tests.stack.conftest import ENVIRONMENT, VOICES, Render, made_greedy, same_sound
from tests.stack.serving import Serve
from tests.stack.speaking import COMPLETE, infer, speak, stream

pytestmark = pytest.mark.stack

TEXT = "This is said in a voice of its own."
TRANSCRIPT = "these are the words of the recording"


@pytest.fixture(scope="module")
def base(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A greedy Base checkpoint."""
    return made_greedy(demo(model_type="base"), tmp_path_factory.mktemp("checkpoint") / "base")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of voices that may be changed."""
    folder = tmp_path_factory.mktemp("library") / "voices"
    shutil.copytree(VOICES, folder)
    return folder


@pytest.fixture(scope="module")
def cloning(base: Path, library: Path) -> Iterator[Serve]:
    serve = Serve(["--model", base, "--voices", library], ENVIRONMENT)
    try:
        serve.wait_for_line("serve: ready")
        yield serve
    finally:
        serve.end()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of stereo sound at 44.1 kHz that is no voice of the library's."""
    time = np.arange(2 * 44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 210 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))
    path = tmp_path_factory.mktemp("recording") / "tone.wav"
    soundfile.write(path, np.stack((tone, 0.6 * tone), axis=1), 44_100, subtype="FLOAT")
    return path


def grpc_address(serve: Serve) -> str:
    return f"127.0.0.1:{serve.ports.triton_grpc}"


async def test_a_voice_folder_is_cloned_as_render_clones_it(
    cloning: Serve, render: Render, base: Path, library: Path
) -> None:
    async with connect(cloning.url) as socket:
        heard = [await speak(socket, TEXT, voice) for voice in ("makima", "liesel", None)]
    assert [one.terminal for one in heard] == [COMPLETE] * 3
    requests = [{"text": TEXT, "voice": voice} for voice in ("makima", "liesel", "makima")]
    rendered = render(requests, base, library)
    assert all(same_sound(one.samples, sound) for one, sound in zip(heard, rendered, strict=True))
    assert not same_sound(heard[0].samples, heard[1].samples)


@pytest.mark.parametrize("transcript", [None, TRANSCRIPT], ids=["x-vector", "in-context"])
async def test_a_recording_in_the_request_is_cloned_without_a_folder(
    cloning: Serve, render: Render, base: Path, library: Path, recording: Path, transcript: str | None
) -> None:
    words = {} if transcript is None else {"reference_text": transcript}
    samples, rate = soundfile.read(recording, dtype="float32")
    sent = {"text": TEXT, "reference_audio": samples.mean(axis=1), "reference_sample_rate": rate, **words}
    pcm, info = await infer(grpc_address(cloning), sent)
    assert info["reason"] == "complete"
    [rendered] = render([{"text": TEXT, "reference_audio": str(recording), **words}], base, library)
    assert same_sound(pcm, rendered)


async def test_an_unknown_voice_is_not_found_by_the_model_and_replaced_by_the_frontend(cloning: Serve) -> None:
    told: list[dict[str, Any]] = []

    async def request() -> AsyncIterator[dict[str, Any]]:
        yield {"text": TEXT, "voice": "nobody"}

    async def ask() -> None:
        async for _, info in stream(grpc_address(cloning), request()):
            told.append(info or {})

    with pytest.raises(InferenceServerException, match=r"'nobody' is not known; this server has: .*makima"):
        await ask()
    assert [info["error"]["code"] for info in told] == ["NOT_FOUND"]
    async with connect(cloning.url) as socket:
        fallen_back, default = await speak(socket, TEXT, "nobody"), await speak(socket, TEXT)
    assert same_sound(fallen_back.samples, default.samples)


async def test_a_voice_added_while_the_server_runs_is_usable_at_once(
    cloning: Serve, render: Render, base: Path, library: Path, recording: Path, figure: Figure
) -> None:
    added = await asyncio.to_thread(
        voices_command.main, ["add", "newcomer", str(recording), "--text", TRANSCRIPT, "--voices", str(library)]
    )
    assert added == 0
    async with connect(cloning.url) as socket:
        first, *again = [await speak(socket, TEXT, "newcomer") for _ in range(6)]
    # The least of several, since a machine with other things to do makes any one of them late.
    soonest = min(later.seconds_to_first for later in again)
    figure(
        "stack: first audio in a new voice, then again",
        f"{first.seconds_to_first * 1000:.0f} ms, {soonest * 1000:.0f} ms",
    )
    [rendered] = render([{"text": TEXT, "voice": "newcomer"}], base, library)
    assert all(same_sound(heard.samples, rendered) for heard in (first, *again))
    assert soonest < first.seconds_to_first
