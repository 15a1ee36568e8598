"""A voices directory, the command that works on it, sound files to make voices of, and a hub to fetch from."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from commands import voices
from tests.commands.local_hub import Hub, serving
from tests.commands.voices_at_hand import Run, Samples
from tests.conftest import Demo


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "voices").mkdir()
    return tmp_path / "voices"


@pytest.fixture
def run(library: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command on the library: its exit code, and what it wrote to both outputs."""

    def command(*arguments: object) -> tuple[int, str, str]:
        code = voices.main([*map(str, arguments), "--voices", str(library)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


@pytest.fixture
def sound(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sound file beside the library."""

    def write(samples: Samples, rate: int = 24_000, name: str = "in.wav", subtype: str | None = "FLOAT") -> Path:
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype if name.endswith(".wav") else None)
        return tmp_path / name

    return write


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "models" / "checkpoint"


@pytest.fixture
def hub(demo: Demo) -> Iterator[Hub]:
    with serving(Hub(demo())) as running:
        yield running
