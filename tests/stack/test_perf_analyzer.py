"""scripts/perf_analyzer against the running stack."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.stack.serving import Serve

pytestmark = pytest.mark.stack


def run(stack: Serve, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "commands.perf_analyzer", f"--url=127.0.0.1:{stack.ports.triton_grpc}"]
    return subprocess.run([*command, *map(str, options)], capture_output=True, text=True, timeout=180, check=False)


def test_a_sweep_over_1_4_8_at_once_meets_no_errors(stack: Serve, tmp_path: Path, figure: Figure) -> None:
    out = tmp_path / "figures.json"
    finished = run(stack, "--concurrency", "1,4,8", "--max-frames", "25", "--measurement-requests", "8", "--json", out)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    measurements = json.loads(out.read_text())
    assert [measured["concurrency"] for measured in measurements] == [1, 4, 8]
    for measured in measurements:
        assert measured["errors"] == 0
        assert measured["requests"] >= 8
        assert 0 < measured["first_response"]["p50"] <= measured["first_response"]["p95"]
        assert measured["audio_rate"] > 0
    for line in finished.stdout.splitlines()[-4:]:
        figure("stack: perf_analyzer", line)


def test_errors_of_the_model_fail_the_measurement(stack: Serve) -> None:
    finished = run(stack, "--concurrency", "2", "--voice", "nobody-of-this-name")
    assert finished.returncode == 1
    assert "nobody-of-this-name" in finished.stderr
