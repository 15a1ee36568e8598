"""Every block of the documents that needs no GPU, no container and no internet, run as a reader pastes it.

The server is started by the README's own command; the checkpoint is greedy, so what is said has one right answer.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from commands.checkpoint import check_checkpoint
from frontend.api_keys import Scope, entry, make_key
from tests.conftest import Demo
from tests.documents import Block, all_blocks
from tests.stack.conftest import ENVIRONMENT, VOICES, OpenPage, Render, made_greedy, same_sound
from tests.stack.pasting import SERVE, Clone, Running, pasted
from tests.stack.serving import Serve
from tests.stack.speaking import Pcm

pytestmark = pytest.mark.stack

SAID = {
    "hello.wav": "Hello there. It is good to hear you.",
    "python.wav": "Hello from Python.",
    "javascript.pcm": "Hello from JavaScript.",
    "shell.mp3": "Hello from a shell.",
    "curl.wav": "Hello from a shell.",
}
"""What is in the files that blocks write."""
CALLS = {
    "async def answer(words, play):": """
import asyncio


async def words():
    for word in ("Words ", "as they ", "come."):
        yield word


heard = []
asyncio.run(answer(words(), heard.append))
print(sum(map(len, heard)))
"""
}
"""Calls to what a block only defines."""


@pytest.fixture(scope="module")
def base(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_greedy(demo(model_type="base"), tmp_path_factory.mktemp("checkpoint") / "base")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone with voices of its own and somebody's recording in it."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(VOICES, folder / "voices")
    reference, rate = soundfile.read(VOICES / "callum" / "reference.wav")
    soundfile.write(folder / "anna.flac", reference, rate)
    made = Clone(folder, {**ENVIRONMENT, "QWEN3_TTS_VOICES": str(folder / "voices")})
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(clone: Clone, base: Path) -> Iterator[Running]:
    """The README's `scripts/serve`."""
    running = clone.start(["bash", "-c", SERVE], "serve: ready", QWEN3_TTS_MODEL=str(base))
    yield running
    assert running.interrupt() == 0, running.lines


@pytest.fixture(scope="module")
def made(render: Render, base: Path) -> dict[str, Pcm]:
    """What the engine alone makes of the texts that blocks have spoken."""
    return dict(zip(SAID, render([{"text": text} for text in SAID.values()], base), strict=True))


def heard(path: Path) -> Pcm:
    """A file as samples at 24 kHz."""
    if path.suffix == ".pcm":
        return np.frombuffer(path.read_bytes(), "<i2").astype(np.int16)
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
    return np.concatenate([np.ravel(frame) for frame in frames])


def test_the_first_command_of_the_readme_starts_a_server(served: Running) -> None:
    assert pasted()[0].source == SERVE
    assert any("ws://127.0.0.1:8080/api/v1/speak" in line for line in served.lines)


@pytest.mark.parametrize(
    "block",
    [block for block in pasted() if block.source != SERVE and "$KEY" not in block.source],
    ids=lambda block: block.place,
)
def test_a_block_does_what_it_says(clone: Clone, served: Running, made: dict[str, Pcm], block: Block) -> None:
    before = set(clone.folder.iterdir())
    [*calls] = [call for definition, call in CALLS.items() if definition in block.source]
    printed = clone.run(block, *calls)
    written = set(clone.folder.iterdir()) - before
    assert printed or written
    if calls:
        assert int(printed) > 0
    for path in written:
        if path.is_dir():
            [config] = path.glob("*/config.json")
            assert check_checkpoint(config.parent).is_untrained_demo
            continue
        said = heard(path)
        if path.suffix in (".wav", ".pcm"):
            assert same_sound(said, made[path.name])
        else:  # its codec is not without loss, and may begin and end with silence
            assert 0 <= len(said) - len(made[path.name]) < 4_800


def test_the_example_with_a_key_adds_a_voice(clone: Clone, served: Running) -> None:
    [block] = [block for block in pasted() if "$KEY" in block.source]
    key = make_key()
    voices = str(clone.folder / "voices")
    guarded = clone.start(
        [sys.executable, "-P", "-m", "frontend"],
        "frontend.readiness ready:",
        FRONTEND_PORT="8081",
        FRONTEND_API_KEYS=entry("root", Scope.ADMIN, key),
        FRONTEND_VOICES=voices,
        FRONTEND_VOICE_UPLOAD="true",
    )
    at = Block(**{**vars(block), "source": block.source.replace(":8080", ":8081")})
    assert json.loads(clone.run(at, KEY=key))["id"] == "anna"
    assert guarded.interrupt() == 0, guarded.lines
    assert (clone.folder / "voices" / "anna" / "manifest.json").is_file()


def test_the_browser_s_example_is_heard_in_a_browser(stack: Serve, open_page: OpenPage) -> None:
    [block] = [block for block in all_blocks() if block.heading == "JavaScript, WebSocket"]
    address = f"127.0.0.1:{stack.ports.frontend}"
    page = open_page().page
    page.goto(f"http://{address}/")
    source = block.source.replace("localhost:8080", address)
    page.evaluate(f"() => {{ {source}; window.playAt = () => playAt; }}")
    with page.expect_console_message(lambda message: "audio_end" in message.text, timeout=60_000):
        pass
    assert page.evaluate("() => window.playAt()") > 0
