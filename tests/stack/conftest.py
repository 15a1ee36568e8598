"""One real stack for the whole session, its checkpoint, and what the engine alone makes of the same requests.

The checkpoint is greedy, as its own generation_config.json says, since protocol v1 has neither seed nor
temperature: so every utterance that comes through a socket has one right answer.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser

from tests.conftest import Demo
from tests.stack.browsing import SIZES, Visit, chromium
from tests.stack.serving import Serve
from tests.stack.speaking import Pcm

Render = Callable[..., list[Pcm]]
VOICES = Path(__file__).resolve().parents[2] / "voices"
StartServe = Callable[..., Serve]
OpenPage = Callable[..., Visit]

# Sums of another batch shape round differently; in float32 that is far too little to change a greedy choice.
# What is tiny is not worth sharing, and threads that wait awake for their share would starve the servers beside them.
ENVIRONMENT = {"QWEN3_TTS_DEVICE": "cpu", "QWEN3_TTS_DTYPE": "float32", "QWEN3_TTS_THREADS": "1"}
GREEDY = {"do_sample": False, "subtalker_dosample": False}


def made_greedy(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint that is greedy unless a request says otherwise."""
    shutil.copytree(checkpoint, folder)
    generation = folder / "generation_config.json"
    generation.write_text(json.dumps({**json.loads(generation.read_text()), **GREEDY}))
    return folder


@pytest.fixture(scope="session")
def greedy_checkpoint(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_greedy(demo(), tmp_path_factory.mktemp("checkpoint") / "greedy")


@pytest.fixture(scope="session")
def stack(greedy_checkpoint: Path) -> Iterator[Serve]:
    """scripts/serve, ready. Tests may kill what it restarts, but leave it serving."""
    serve = Serve(["--model", greedy_checkpoint], ENVIRONMENT)
    try:
        serve.wait_for_line("serve: ready")
        yield serve
        assert serve.interrupt() == 0, serve.output
    finally:
        serve.end()


@pytest.fixture
def start_serve() -> Iterator[StartServe]:
    """Starts servers of a test's own; whatever it leaves running is ended."""
    started: list[Serve] = []

    def start(*options: str | Path, **environment: str) -> Serve:
        started.append(Serve(options, {**ENVIRONMENT, **environment}))
        return started[-1]

    yield start
    for serve in started:
        serve.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages in a fresh profile each; none of them may have complained in its console."""
    opened: list[Visit] = []

    def new(**options: Any) -> Visit:
        opened.append(Visit(browser.new_page(**{**SIZES["light"], **options})))
        return opened[-1]

    yield new
    for visit in opened:
        visit.page.close()
        assert visit.complaints == []


@pytest.fixture(scope="session")
def render(greedy_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """PCM that scripts/render makes of requests, in their order, one at a time.

    In this process: the command's own takes five times as long to start as to render.
    """
    # Here, since it brings torch, which not every run of these tests needs.
    from commands import render as render_command

    def made(
        requests: Sequence[dict[str, Any]], checkpoint: Path = greedy_checkpoint, voices: Path = VOICES
    ) -> list[Pcm]:
        out = tmp_path_factory.mktemp("rendered")
        lines = out / "requests.jsonl"
        lines.write_text("".join(json.dumps({"id": f"r{n}", **request}) + "\n" for n, request in enumerate(requests)))
        places = ["--model", str(checkpoint), "--voices", str(voices), "--out", str(out)]
        assert render_command.main([str(lines), *places, "--batch", "1", "--device", "cpu", "--dtype", "float32"]) == 0
        return [soundfile.read(out / f"r{n}.wav", dtype="int16")[0] for n in range(len(requests))]

    return made


def same_sound(one: Pcm, other: Pcm) -> bool:
    """Whether two utterances differ by the least significant bit at most."""
    return one.shape == other.shape and bool((np.abs(one.astype(int) - other.astype(int)) <= 1).all())
