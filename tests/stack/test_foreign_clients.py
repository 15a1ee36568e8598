"""Clients that nobody here wrote, against the whole stack: OpenAI's SDK, LiveKit's and Pipecat's OpenAI services, curl.

The examples of docs/clients.md are run as they stand there. The checkpoint is greedy, so what a client hears without
loss has one right answer: what the engine alone makes of the text.
"""

import asyncio
import base64
import io
import json
import os
import re
import subprocess
import sys
import time
import wave
from pathlib import Path

import av
import numpy as np
import openai
import pytest
import soundfile
from openai import AsyncOpenAI, OpenAI

from tests.conftest import REPOSITORY, Figure
from tests.stack.conftest import Render, same_sound
from tests.stack.serving import Serve, seconds_until
from tests.stack.speaking import Pcm

pytestmark = pytest.mark.stack

TEXT = "Hello from a client that nobody here wrote."
LONG_TEXT = "This is a long sentence that nobody will hear to its end. " * 8
FORMATS = ["mp3", "opus", "aac", "flac", "wav", "pcm"]
MODEL = {"model": "qwen3-tts", "voice": "makima"}
EXAMPLE_S = 120.0


@pytest.fixture(scope="module")
def address(stack: Serve) -> str:
    return f"127.0.0.1:{stack.ports.frontend}"


@pytest.fixture(scope="module")
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def said(render: Render) -> Pcm:
    return render([{"text": TEXT}])[0]


def heard(audio: bytes, kind: str) -> Pcm:
    """A file as samples at 24 kHz."""
    if kind == "pcm":
        return np.frombuffer(audio, "<i2").astype(np.int16)
    with av.open(io.BytesIO(audio)) as file:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=24_000)
        frames = [out for frame in [*file.decode(audio=0), None] for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def is_heard(samples: Pcm, said: Pcm, kind: str) -> bool:
    """The very samples where the format keeps them; else the length, but for the codec's own delay and blocks."""
    if kind in ("flac", "wav", "pcm"):
        return same_sound(samples, said)
    return 0 <= len(samples) - len(said) < 2_400


@pytest.mark.parametrize("kind", FORMATS)
def test_the_openai_sdk_hears_every_format(client: OpenAI, said: Pcm, kind: str) -> None:
    audio = client.audio.speech.create(**MODEL, input=TEXT, response_format=kind).read()
    assert is_heard(heard(audio, kind), said, kind)


@pytest.mark.parametrize("kind", ["mp3", "pcm"])
def test_the_openai_sdk_hears_the_beginning_before_the_end_is_made(
    client: OpenAI, said: Pcm, kind: str, figure: Figure
) -> None:
    asked = time.monotonic()
    with client.audio.speech.with_streaming_response.create(**MODEL, input=TEXT, response_format=kind) as response:
        parts = [(time.monotonic() - asked, part) for part in response.iter_bytes()]
    figure(f"openai SDK, {kind}: first bytes", f"after {parts[0][0] * 1000:.0f} ms of {parts[-1][0] * 1000:.0f} ms")
    assert is_heard(heard(b"".join(part for _, part in parts), kind), said, kind)
    assert parts[0][0] < parts[-1][0] / 2
    assert response.headers["x-request-id"].startswith("req_")


def test_the_openai_sdk_reads_events(client: OpenAI, said: Pcm) -> None:
    with client.audio.speech.with_streaming_response.create(
        **MODEL, input=TEXT, response_format="pcm", stream_format="sse"
    ) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert same_sound(heard(audio, "pcm"), said)
    frames = len(said) // 1_920
    assert done["usage"] == {
        **{"input_tokens": len(TEXT), "output_tokens": frames, "total_tokens": len(TEXT) + frames},
    }


def test_the_openai_sdk_gets_its_own_errors(client: OpenAI) -> None:
    speak = client.audio.speech.create
    with pytest.raises(openai.NotFoundError) as unknown:
        speak(model="qwen3-tts", voice="nobody", input=TEXT)
    assert (unknown.value.code, unknown.value.param) == ("voice_not_found", "voice")
    assert unknown.value.request_id is not None
    with pytest.raises(openai.BadRequestError) as blank:
        speak(**MODEL, input=" ")
    assert (blank.value.code, blank.value.param) == ("text_empty", "input")
    with pytest.raises(openai.BadRequestError) as loud:
        speak(**MODEL, input=TEXT, speed=5)
    assert loud.value.param == "speed"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


def test_the_openai_sdk_sees_the_models(client: OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids[0] == "qwen3-tts"
    assert client.models.retrieve("tts-1").id == "tts-1"


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_the_openai_sdk_chooses_the_speed(client: OpenAI, said: Pcm, speed: float) -> None:
    audio = client.audio.speech.create(**MODEL, input=TEXT, response_format="wav", speed=speed).read()
    assert len(heard(audio, "wav")) == pytest.approx(len(said) / speed, rel=0.05)


async def test_eight_openai_clients_at_once_hear_the_same(address: str, said: Pcm) -> None:
    async with AsyncOpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0) as client:
        answers = await asyncio.gather(
            *(client.audio.speech.create(**MODEL, input=TEXT, response_format="flac") for _ in range(8))
        )
    assert [same_sound(heard(answer.content, "flac"), said) for answer in answers] == [True] * 8


async def test_an_openai_client_that_leaves_frees_the_slot(stack: Serve, address: str, figure: Figure) -> None:
    before = stack.metric("tts_utterances_total", reason="cancelled")
    async with (
        AsyncOpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0) as client,
        client.audio.speech.with_streaming_response.create(**MODEL, input=LONG_TEXT, response_format="pcm") as response,
    ):
        async for _ in response.iter_bytes():
            break
    took = await seconds_until(lambda: stack.metric("tts_utterances_total", reason="cancelled") == before + 1, 5)
    figure("openai SDK: from leaving to a free slot", f"{took * 1000:.0f} ms")
    assert stack.metric("tts_active_utterances") == 0


def examples(language: str, heading: str) -> list[str]:
    """The blocks of one language below a heading of docs/clients.md."""
    text = (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8")
    [section] = re.findall(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def run_example(command: list[str], source: str, address: str, folder: Path) -> str:
    """What an example prints when it talks to the stack."""
    finished = subprocess.run(
        [*command, source.replace("localhost:8080", address)],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=EXAMPLE_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def recorded(path: Path) -> Pcm:
    """The samples of a WAV file an example has written, also one whose header does not know their number."""
    with soundfile.SoundFile(path) as file:
        assert (file.samplerate, file.channels) == (24_000, 1)
        return file.read(24_000 * 600, dtype="int16")


@pytest.mark.parametrize(
    ("heading", "text"),
    [
        ("Python, WebSocket", "Hello there. This sentence is still being written."),
        ("OpenAI SDK", "Hello from the OpenAI client."),
    ],
)
def test_a_python_example_does_what_it_says(
    address: str, render: Render, tmp_path: Path, heading: str, text: str
) -> None:
    [source] = examples("python", heading)
    placement = {"text_placement": "stream"} if "WebSocket" in heading else {}
    language = {"language": "english", "seed": 7} if "OpenAI" in heading else {}
    assert run_example([sys.executable, "-c"], source, address, tmp_path)
    [file] = tmp_path.iterdir()
    assert same_sound(recorded(file), render([{"text": text, **placement, **language}])[0])


def test_the_shell_example_does_what_it_says(address: str, render: Render, tmp_path: Path) -> None:
    source, _upload = examples("sh", "curl")
    printed = run_example(["bash", "-euc"], source, address, tmp_path)
    assert "makima" in {voice["id"] for voice in json.loads(printed)["voices"]}
    assert same_sound(recorded(tmp_path / "curl.wav"), render([{"text": "Hello from a shell."}])[0])


@pytest.fixture(scope="module")
def frameworks() -> str:
    """The interpreter that has LiveKit and Pipecat."""
    python = os.environ.get("FOREIGN_CLIENTS_PYTHON")
    assert python, "FOREIGN_CLIENTS_PYTHON is not set; scripts/test sets it"
    return python


LIVEKIT_LOSES = {"flac": 576, "opus": 480}
"""Samples of the first packet, which LiveKit's decoder takes to find out what it is given, and then drops."""
LIVEKIT_BYTES = "plain bytes"
"""It asks for events unless the model is one of a few names of OpenAI's."""
EACH_IN_ITS_FOLDER = """
import os

for folder, source in {sources!r}.items():
    os.chdir(folder)
    exec(compile(source, folder, "exec"), {{"__name__": "__main__"}})
"""


@pytest.fixture(scope="module")
def livekit(address: str, frameworks: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pcm]:
    """What LiveKit's example writes, in each format and as plain bytes; in one process, which takes long to start."""
    [source] = examples("python", "LiveKit Agents")
    said_in = {kind: source.replace('"pcm"', f'"{kind}"') for kind in FORMATS}
    said_in[LIVEKIT_BYTES] = source.replace('"qwen3-tts"', '"tts-1"')
    folders = {kind: tmp_path_factory.mktemp("livekit") for kind in said_in}
    sources = {str(folders[kind]): source for kind, source in said_in.items()}
    run_example([frameworks, "-c"], EACH_IN_ITS_FOLDER.format(sources=sources), address, folders[LIVEKIT_BYTES])
    return {kind: recorded(folder / "livekit.wav") for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def said_to_livekit(render: Render) -> Pcm:
    return render([{"text": "Hello from LiveKit."}])[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_livekit_hears_every_format(livekit: dict[str, Pcm], said_to_livekit: Pcm, kind: str) -> None:
    said = said_to_livekit[LIVEKIT_LOSES.get(kind, 0) :]
    # Its last frame is filled up with silence.
    assert is_heard(livekit[kind][: len(said)], said, kind)
    assert 0 <= len(livekit[kind]) - len(said) < 4_800


def test_livekit_hears_plain_bytes_as_well_as_events(livekit: dict[str, Pcm], said_to_livekit: Pcm) -> None:
    assert same_sound(livekit[LIVEKIT_BYTES][: len(said_to_livekit)], said_to_livekit)


def test_pipecat_hears_the_default_voice_under_a_name_of_openai(
    address: str, render: Render, tmp_path: Path, frameworks: str
) -> None:
    [source] = examples("python", "Pipecat")
    run_example([frameworks, "-c"], source, address, tmp_path)
    assert same_sound(recorded(tmp_path / "pipecat.wav"), render([{"text": "Hello from Pipecat."}])[0])
    with wave.open(str(tmp_path / "pipecat.wav")) as file:
        assert file.getframerate() == 24_000
