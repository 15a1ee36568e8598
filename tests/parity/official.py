"""Starts the official package's process on a list of calls and reads what it left."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.parity.cases import MAX_NEW_TOKENS, Call, Row

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 600


@dataclass(frozen=True)
class Speech:
    """Codes int64 (T, 16), audio float32 (T*1920,) of those codes, and the talker's logits (steps, V).

    Of a clone: vector (D,), and recording int64 (T, 16), the codes it goes on from when it is made in context.
    """

    codes: npt.NDArray[np.int64]
    audio: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    vector: npt.NDArray[np.float32] | None
    recording: npt.NDArray[np.int64] | None


def official_python() -> str:
    """The interpreter that has the official package; fails the test when there is none."""
    given = os.environ.get("QWEN_TTS_OFFICIAL_PYTHON")
    python = Path(given) if given else REPOSITORY / ".venv-parity" / "bin" / "python"
    if not os.access(python, os.X_OK):
        pytest.fail(
            f"parity needs the official package: {python} cannot be run; scripts/test makes it, or set "
            "QWEN_TTS_OFFICIAL_PYTHON",
            pytrace=False,
        )
    return str(python)


class OfficialRun:
    """The official package at work in its own process, on calls whose checkpoints are in `checkpoints`.

    Sound files to clone are in `recordings`.
    """

    def __init__(self, calls: Sequence[Call], checkpoints: Path, recordings: Path, out: Path) -> None:
        self._out = out
        out.mkdir()
        cases = out / "cases.jsonl"
        lines = (json.dumps(_case(call, checkpoints, recordings), ensure_ascii=False) for call in calls)
        cases.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._log = out / "worker.log"
        worker = Path(__file__).with_name("official_worker.py")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [official_python(), str(worker), str(cases), str(out)], stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> None:
        """Returns when all is there; fails the test with the end of the log when the process failed."""
        if self._process.wait(DEADLINE_S) != 0:
            end = self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
            pytest.fail(f"the official package ended with {self._process.returncode}:\n{end}", pytrace=False)

    def stop(self) -> None:
        """Ends the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def speech(self, row: Row) -> Speech:
        """What the official package made of a row."""
        return Speech(**{part: self._part(row, part) for part in ("codes", "audio", "logits", "vector", "recording")})

    def _part(self, row: Row, part: str) -> Any:
        """One of the arrays a row left; None for those that only clones leave."""
        path = self._out / f"{row.id}.{part}.npy"
        return np.load(path) if path.exists() or part in ("codes", "audio", "logits") else None


def _case(call: Call, checkpoints: Path, recordings: Path) -> dict[str, object]:
    return {
        "checkpoint": str(checkpoints / call.model.name),
        "method": call.model.model_type,
        "non_streaming_mode": call.text_placement == "prefill",
        "max_new_tokens": MAX_NEW_TOKENS,
        "logits": True,
        "ids": [row.id for row in call.rows],
        "texts": [row.text for row in call.rows],
        "languages": [row.language for row in call.rows],
        "speakers": [row.speaker for row in call.rows],
        "instructs": [row.instruct for row in call.rows],
        "recordings": [str(recordings / row.recording.file) if row.recording else None for row in call.rows],
        "transcripts": [row.transcript for row in call.rows],
    }
