"""Starts a peer's process and gives it jobs. Knows no implementation but by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import REPOSITORY
from benchmarks.peer_worker import Job, Spoken

_ENGINE = REPOSITORY / "model_repository" / "qwen3_tts" / "1"
_SHIMS = REPOSITORY / "tests" / "parity"
# Where each peer's interpreter stands unless a variable names another.
_PYTHONS = {
    "ours": (None, Path(sys.executable)),
    "official": ("QWEN_TTS_OFFICIAL_PYTHON", REPOSITORY / ".venv-parity" / "bin" / "python"),
    "faster": ("FASTER_QWEN3_TTS_PYTHON", REPOSITORY / ".venv-faster" / "bin" / "python"),
}
_LOG_TAIL = 1_500


class PeerFailed(Exception):
    """A peer could not start or died; the message is a line that says why, and then the last lines it wrote."""


def _environment(name: str) -> dict[str, str]:
    environment = dict(os.environ)
    inherited = environment.get("PYTHONPATH")
    path = [str(REPOSITORY), str(_ENGINE), str(_SHIMS), *([inherited] if inherited else [])]
    if name != "ours":
        # Set by tts_engine for itself; alone on its cores a peer is a little faster without.
        environment.pop("GOMP_SPINCOUNT", None)
    return environment | {"PYTHONPATH": os.pathsep.join(path)}


class PeerProcess:
    """One peer with one checkpoint loaded. Raises PeerFailed from every call once it is gone."""

    def __init__(self, name: str, checkpoint: Path, device: str, dtype: str, threads: int) -> None:
        """Start loading; `wait_until_ready` waits for it."""
        self._name = name
        python = interpreter(name)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [python, "-P", "-m", "benchmarks.peer_worker", name, str(checkpoint), device, dtype, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(name),
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Return when the checkpoint is loaded."""
        self._answer()

    def speak(self, job: Job) -> Spoken:
        """Have a job done."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(vars(job)) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure() from error
        return Spoken(**self._answer())

    def close(self) -> None:
        """End the process: politely, since it then frees the device itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self) -> PeerFailed:
        status = self._process.wait()
        self._log.seek(0)
        tail = self._log.read().decode("utf-8", "replace").strip()[-_LOG_TAIL:]
        return PeerFailed(f"{self._name} ended with {status}: {tail.rpartition(chr(10))[2]}\n{tail}")


def interpreter(name: str) -> str:
    """The Python a peer runs with. Raises PeerFailed when it is not there."""
    variable, usual = _PYTHONS[name]
    given = os.environ.get(variable) if variable is not None else None
    python = Path(given) if given else usual
    if not os.access(python, os.X_OK):
        shown = python.relative_to(REPOSITORY) if python.is_relative_to(REPOSITORY) else python
        raise PeerFailed(f"{name} is not installed: {shown} cannot be run; set {variable} to its interpreter")
    return str(python)
