"""Blocks of the documents, run as they stand there: in a folder like a clone of the repository, at the ports they name.

With the right to make one, they get a network of their own, in which those ports are free. Knows no expected result.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

from tests.conftest import REPOSITORY
from tests.documents import SHELL, Block, all_blocks
from tests.stack.serving import START_TIMEOUT, STOP_TIMEOUT

SERVE = "scripts/serve\n"
"""The block that starts what all others talk to."""
RUN_ELSEWHERE = {
    (
        "docs/clients.md",
        "Python, WebSocket",
    ): "tests/stack/test_foreign_clients.py::test_a_python_example_does_what_it_says",
    ("docs/clients.md", "OpenAI SDK"): "tests/stack/test_foreign_clients.py::test_a_python_example_does_what_it_says",
    ("docs/clients.md", "LiveKit Agents"): "tests/stack/test_foreign_clients.py::test_livekit_hears_every_format",
    ("docs/clients.md", "Pipecat"): "tests/stack/test_foreign_clients.py::"
    "test_pipecat_hears_the_default_voice_under_a_name_of_openai",
    (
        "docs/observability.md",
        "Traces",
    ): "tests/stack/test_tracing.py::test_an_error_is_seen_in_the_trace_and_in_the_log",
    ("docs/clients.md", "JavaScript, WebSocket"): "tests/stack/test_documentation.py::"
    "test_the_browser_s_example_is_heard_in_a_browser",
}
"""By document and heading: the test that runs the blocks there, in surroundings of its own."""
BLOCK_S = 180.0
# 0x8914 sets the flags of a network interface: a new network's loopback is down.
LOOPBACK_UP = """
import fcntl, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 0x41))
print("up", flush=True)
sys.stdin.read()
"""


def pasted() -> list[Block]:
    """The blocks that can be run by pasting them, SERVE included."""
    languages = (*SHELL, "python", "javascript")
    return [
        block
        for block in all_blocks()
        if block.language in languages and not block.needs and (block.document, block.heading) not in RUN_ELSEWHERE
    ]


class Clone:
    """A folder in which the documents' commands find what they would in a clone, and a network if there can be one.

    Its voices are its own; everything else is the repository's.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = {**os.environ, "NO_PROXY": "*", **environment}
        for name in _cloned_names() | {".venv"}:
            if name != "voices":
                (folder / name).symlink_to(REPOSITORY / name)
        self._network = _own_network()
        holder = self._network.pid if self._network is not None else None
        self._enter = [] if holder is None else ["nsenter", f"--net=/proc/{holder}/ns/net", "--"]

    def run(self, block: Block, after: str = "", **environment: str) -> str:
        """What a block prints; `after` is run behind it. Fails the test when it fails."""
        shell = {language: ["bash", "-euo", "pipefail", "-c"] for language in SHELL}
        node = [compute_driver_executable()[0], "--input-type=module", "--eval"]
        program = {**shell, "python": [sys.executable, "-c"], "javascript": node}[block.language]
        finished = subprocess.run(
            [*self._enter, *program, block.source + after],
            cwd=self.folder,
            env={**self._environment, **environment},
            input="y\n",
            capture_output=True,
            text=True,
            timeout=BLOCK_S,
            check=False,
        )
        assert finished.returncode == 0, f"{block.place}: {finished.stdout}{finished.stderr}"
        return finished.stdout

    def start(self, command: list[str], ready: str, **environment: str) -> "Running":
        """Starts something that stays, and returns when it has printed a line with `ready` in it."""
        return Running([*self._enter, *command], self.folder, {**self._environment, **environment}, ready)

    def close(self) -> None:
        if self._network is not None:
            self._network.communicate("", timeout=STOP_TIMEOUT)


class Running:
    """A process that stays until it is interrupted."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str], ready: str) -> None:
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[ready], daemon=True)
        self._reader.start()
        if not self._ready.wait(START_TIMEOUT) or self._process.poll() is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_TIMEOUT)
            raise AssertionError(f"no line with {ready!r} in:\n" + "\n".join(self.lines))

    def _read(self, ready: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if ready in line:
                self._ready.set()
        self._ready.set()

    def interrupt(self) -> int:
        """What Ctrl-C does; the exit status."""
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(STOP_TIMEOUT)
        self._reader.join(STOP_TIMEOUT)
        return status


def _cloned_names() -> set[str]:
    """What a clone has at its top: nothing that somebody's own commands have left there."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z"]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return {Path(file).parts[0] for file in files if file}


def _own_network() -> subprocess.Popen[str] | None:
    """A process that keeps a network, or None where nobody may make one."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return None
    command = ["unshare", "--net", "--", sys.executable, "-c", LOOPBACK_UP]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    if holder.stdout.readline() == "up\n":
        return holder
    holder.communicate()
    return None
