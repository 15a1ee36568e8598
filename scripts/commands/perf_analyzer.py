"""scripts/perf_analyzer: how fast the model in a running Triton answers when several clients ask at once.

Runs Triton's own perf_analyzer for each concurrency and prints what a listener feels. Starts no server.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commands import CommandFailed
from commands.perf_binary import PerfBinary, find_perf_analyzer
from commands.perf_report import Measurement, read_export, table

MODEL = "qwen3_tts"
SAMPLE_RATE = 24_000
TEXT = "The quick brown fox jumps over the lazy dog, and then it takes a long nap in the warm afternoon sun."


def concurrencies(listed: str) -> list[int]:
    """The numbers of a list such as 1,4,8."""
    numbers = [int(number) for number in listed.split(",")]
    if min(numbers) < 1:
        raise ValueError(f"{min(numbers)} is not at least 1")
    return numbers


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="perf_analyzer", description="Measure the model in a running Triton.")
    parser.add_argument("--url", default="localhost:8001", help="Triton's gRPC address (default: %(default)s)")
    parser.add_argument("--concurrency", type=concurrencies, default=[1, 4, 8], help="a list (default: 1,4,8)")
    parser.add_argument("--text", default=TEXT, help="what every request says")
    parser.add_argument("--voice", help="(default: the model's)")
    parser.add_argument("--max-frames", type=int, help="cap of each utterance, 80 ms a frame (default: the model's)")
    parser.add_argument("--measurement-requests", type=int, default=20, help="for each concurrency (default: 20)")
    parser.add_argument("--json", type=Path, help="a file for the figures, times in seconds")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        binary = find_perf_analyzer()
        measurements = []
        for concurrency in options.concurrency:
            print(f"perf_analyzer: {concurrency} at once", flush=True)
            measurements.append(measure(binary, options, concurrency))
    except CommandFailed as failure:
        print(f"perf_analyzer: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(measurements))
    if options.json is not None:
        options.json.write_text(json.dumps([measured.as_json() for measured in measurements], indent=2) + "\n")
    return 1 if any(measured.errors for measured in measurements) else 0


def measure(binary: PerfBinary, options: argparse.Namespace, concurrency: int) -> Measurement:
    """The figures of one concurrency. Raises CommandFailed with the first error that a request met."""
    with tempfile.TemporaryDirectory(prefix="qwen3-tts-perf-") as folder:
        requests = Path(folder, "requests.json")
        requests.write_text(json.dumps({"data": [_request(options)]}))
        export = Path(folder, "export.json")
        command: list[str | Path] = [binary.path, "-m", MODEL, "-i", "grpc", "-u", options.url, "--streaming"]
        command += ["--input-data", requests, "--profile-export-file", export]
        command += ["--concurrency-range", str(concurrency)]
        # Every client must have at least one request, or the program refuses.
        command += ["--request-count", str(max(options.measurement_requests, concurrency))]
        finished = subprocess.run(
            command, env=binary.environment(os.environ), capture_output=True, text=True, check=False
        )
        if finished.returncode != 0 or not export.exists():
            raise CommandFailed(f"at concurrency {concurrency}: {_error(finished)}")
        return read_export(json.loads(export.read_text()), SAMPLE_RATE)


def _request(options: argparse.Namespace) -> dict[str, list[Any]]:
    given = {"text": options.text, "voice": options.voice, "max_frames": options.max_frames}
    return {name: [value] for name, value in given.items() if value is not None}


def _error(finished: subprocess.CompletedProcess[str]) -> str:
    lines = f"{finished.stderr}\n{finished.stdout}".splitlines()
    telling = [line.strip().rpartition("had error: ")[2] for line in lines if "error" in line.lower()]
    return telling[0] if telling else f"perf_analyzer ended with status {finished.returncode}"


if __name__ == "__main__":
    sys.exit(main())
