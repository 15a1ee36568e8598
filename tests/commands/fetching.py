"""Fetches from the hub beside it as the tests want them: impatient, and with what lies there afterwards."""

import io
from pathlib import Path

import pytest

from commands import CommandFailed
from commands.checkpoint import check_checkpoint, checkpoints_in
from commands.fetch import fetch
from commands.fetch_listing import Listing, Source
from commands.fetch_progress import Progress
from commands.fetch_staging import RECORD
from commands.fetch_transfer import Patience
from tests.commands.local_hub import Hub
from tts_engine import CheckpointError, Engine, EngineConfig

IMPATIENT = Patience(attempts=3, first_wait_s=0.001, longest_wait_s=0.001)
WEIGHTS = "model.safetensors"


def get(hub: Hub, out: Path, revision: str | None = None, told: io.StringIO | None = None) -> Listing:
    return fetch(Source(hub.repository, revision, hub.endpoint), out, Progress(told or io.StringIO()), IMPATIENT)


def content(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but the record of the fetching."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def unfinished(out: Path) -> Path:
    return out.with_name(f".unfinished-{out.name}")


def nothing_is_served(out: Path) -> bool:
    """Whether neither a command nor the engine could take what lies there for a checkpoint."""
    with pytest.raises(CheckpointError):
        Engine.load(unfinished(out), EngineConfig(), None, device="cpu")
    with pytest.raises(CommandFailed):
        check_checkpoint(unfinished(out))
    return not out.exists() and checkpoints_in(out.parent) == []
