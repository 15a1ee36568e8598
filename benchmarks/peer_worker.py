"""One implementation of Qwen3-TTS in a process and an environment of its own, speaking the jobs it is given.

    python -m benchmarks.peer_worker ours|official|faster CHECKPOINT DEVICE DTYPE THREADS

Reads one job a line from standard input and answers one line each on standard output. What packages print goes to
standard error. Imports nothing the official package's environment lacks.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Job:
    """Texts to speak in one batch, each for `frames` frames of 80 ms, with the checkpoint's own sampling values."""

    texts: list[str]
    frames: int
    seed: int


@dataclass(frozen=True)
class Spoken:
    """seconds: from the call until all sound was there. first_s: until each text's first. frames: made of each."""

    seconds: float
    first_s: list[float]
    frames: list[int]


class Peer(Protocol):
    """An implementation with its checkpoint loaded."""

    def speak(self, job: Job) -> Spoken:
        """Do a job."""
        ...

    def close(self) -> None:
        """Let go of what runs."""
        ...


def main() -> None:
    """Serve jobs until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, checkpoint, device, dtype, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    peer: Peer = importlib.import_module(f"benchmarks.peer_{name}").load(checkpoint, device, dtype)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        spoken = peer.speak(Job(**json.loads(line)))
        print(json.dumps(asdict(spoken)), file=answers, flush=True)
    peer.close()


if __name__ == "__main__":
    main()
