"""Which checkpoint a benchmark measures: a folder, a tiny random one, or a random one in released dimensions."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from commands.demo_checkpoint import write_demo_checkpoint

DEMO = "demo"
_SIZES = {"0.6b": "0b6", "1.7b": "1b7"}


@dataclass(frozen=True)
class Measured:
    """A checkpoint to measure. name: what files of results are called by."""

    folder: Path
    name: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options by which a checkpoint is chosen."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--model", default=DEMO, help="a checkpoint directory, or demo: a tiny random one (default)")
    choice.add_argument("--full-size", choices=_SIZES, help="a random checkpoint in the released dimensions")
    parser.add_argument(
        "--checkpoints", type=Path, help="keep random checkpoints in this folder, and take what an earlier run left"
    )


@contextmanager
def chosen(options: argparse.Namespace, device: torch.device) -> Iterator[Measured]:
    """The checkpoint the options name; one that was made is gone afterwards unless it was to be kept."""
    if options.full_size is None and options.model != DEMO:
        folder = Path(options.model)
        yield Measured(folder, folder.resolve().name)
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        place = Path(temporary) if options.checkpoints is None else options.checkpoints
        yield _made(place, options.full_size, device)


def _made(place: Path, full_size: str | None, device: torch.device) -> Measured:
    name = DEMO if full_size is None else f"random-{full_size}"
    folder = place / name
    if not (folder / "config.json").is_file():  # it is written last
        size = _SIZES.get(full_size or "", "0b6")
        # Billions of numbers are drawn faster on the device that will use them.
        where = device.type if full_size is not None else "cpu"
        write_demo_checkpoint(folder, size=size, full_size=full_size is not None, device=where)
    return Measured(folder, name)
