"""Checkpoints read once, and engines that are always shut down."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY, Demo
from tests.engine.fakes import ScriptedRunner
from tests.engine.prompt_kit import Kit
from tests.engine.stage import Stage
from tts_engine import Engine, EngineConfig
from tts_engine.checkpoint import Checkpoint
from tts_engine.runner import Runner
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import VoiceBook

VOICES = REPOSITORY / "voices"
SMALL = EngineConfig(slots=3, max_waiting=4, max_text_tokens=64, max_instruct_tokens=100, max_frames=220)

LoadEngine = Callable[..., Engine]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(demo: Demo) -> Checkpoint:
    """A tiny custom_voice checkpoint without its weights."""
    return Checkpoint.read(demo())


@pytest.fixture(scope="session")
def kit(demo: Demo) -> Callable[..., Kit]:
    """Prompt builders, made once each: kit(size, model_type)."""
    made: dict[tuple[str, str], Kit] = {}

    def make(size: str = "0b6", model_type: str = "custom_voice") -> Kit:
        key = (size, model_type)
        return made.setdefault(key, Kit(demo(size=size, model_type=model_type)))

    return make


@pytest.fixture
def folder(demo: Demo, tmp_path: Path) -> Path:
    """A copy of the tiny custom_voice checkpoint, to be spoilt."""
    return Path(shutil.copytree(demo(), tmp_path / "copy"))


@pytest.fixture
def load_engine(demo: Demo) -> Iterator[LoadEngine]:
    """Starts engines on tiny checkpoints: load_engine(config, model_type=…, size=…, dtype=…)."""
    engines: list[Engine] = []

    def load(config: EngineConfig = SMALL, *, dtype: str = "float32", **kind: str) -> Engine:
        engine = Engine.load(demo(**kind), config, VOICES, device="cpu", dtype=dtype, threads="1")
        engine.start()
        engines.append(engine)
        return engine

    yield load
    for engine in engines:
        engine.shutdown()


@pytest.fixture
def engine_with(checkpoint: Checkpoint) -> Iterator[Callable[[Runner, EngineConfig], Engine]]:
    """Starts an engine that runs on the runner it is given."""
    engines: list[Engine] = []
    scripted: list[ScriptedRunner] = []

    def make(runner: Runner, config: EngineConfig = SMALL) -> Engine:
        book = VoiceBook(checkpoint.model, VoiceLibrary(VOICES), config.default_voice)
        engine = Engine(checkpoint, config, book, runner, encoder=None)
        engine.start()
        engines.append(engine)
        scripted.extend([runner] if isinstance(runner, ScriptedRunner) else [])
        return engine

    yield make
    for runner in scripted:
        runner.run_freely()
    for engine in engines:
        engine.shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    one = Stage()
    yield one
    one.release()
    one.delivery.stop()
