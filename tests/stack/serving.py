"""scripts/serve as a child process of the tests: its output as it comes, its processes, its metrics, its end.

Knows the command, the process table and Triton's metrics port; not what is spoken.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from commands.ports import free_ports
from commands.triton_installation import STUB

START_TIMEOUT = 90.0
STOP_TIMEOUT = 45.0
POLL = 0.005


@dataclass(frozen=True)
class Ports:
    frontend: int
    triton_http: int
    triton_grpc: int
    triton_metrics: int
    frontend_metrics: int

    @classmethod
    def free(cls) -> "Ports":
        return cls(*free_ports(5))

    def options(self) -> list[str]:
        """The ports as options of scripts/serve."""
        return [
            f"--port={self.frontend}",
            f"--triton-http-port={self.triton_http}",
            f"--triton-grpc-port={self.triton_grpc}",
            f"--triton-metrics-port={self.triton_metrics}",
        ]


class Serve:
    """A running scripts/serve. Its output is collected by a thread, so that waiting for a line is an event."""

    def __init__(self, options: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self.ports = Ports.free()
        self.url = f"ws://127.0.0.1:{self.ports.frontend}/api/v1/speak"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "commands.serve", *self.ports.options(), *map(str, options)],
            env={**os.environ, "FRONTEND_METRICS_PORT": str(self.ports.frontend_metrics), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        with self._changed:
            return "\n".join(self._lines)

    def wait_for_line(self, pattern: str, timeout: float = START_TIMEOUT, after: int = 0) -> str:
        """The first line, from number `after` on, that matches; fails the test when the command ends before."""

        def found() -> str | None:
            return next((line for line in self._lines[after:] if re.search(pattern, line)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._ended, timeout)
            line = found()
        assert line is not None, f"no line {pattern!r} within {timeout:g} s in:\n{self.output}"
        return line

    @property
    def lines_so_far(self) -> int:
        with self._changed:
            return len(self._lines)

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """What Ctrl-C does; the exit status."""
        self._process.send_signal(number)
        return self._process.wait(STOP_TIMEOUT)

    def ended_with(self) -> int:
        """The exit status of a command that ends by itself."""
        return self._process.wait(STOP_TIMEOUT)

    def end(self) -> None:
        """Ends the command if it still runs, by force if it does not listen."""
        children = self.children()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            for pid in filter(is_alive, children):
                os.kill(pid, signal.SIGKILL)

    def children(self) -> dict[int, str]:
        """Every process that this command has started, and their command lines."""
        parents = {int(name): _parent(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        family = {self._process.pid}
        while new := {pid for pid, parent in parents.items() if parent in family and pid not in family}:
            family |= new
        return {pid: _command_line(pid) for pid in family - {self._process.pid} if is_alive(pid)}

    def process(self, word: str) -> int:
        """The one child whose command line holds a word."""
        [pid] = [pid for pid, command in self.children().items() if word in command]
        return pid

    @property
    def stub(self) -> int:
        return self.process(f"{STUB} ")

    @property
    def shared_memory(self) -> list[Path]:
        """The shared memory files of this server."""
        server = _command_line(self.process("bin/tritonserver "))
        match = re.search(r"shm-region-prefix-name=(\S+)", server)
        assert match is not None, server
        return list(Path("/dev/shm").glob(f"{match[1]}*"))

    def metric(self, name: str, **labels: str) -> float:
        """One of the model's own metrics, read from Triton's metrics port: the sum of those with these labels."""
        url = f"http://127.0.0.1:{self.ports.triton_metrics}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            shown = re.findall(rf"^{name}{{([^}}]*)}} (\S+)$", answer.read().decode(), re.MULTILINE)
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        values = [float(value) for own, value in shown if wanted <= set(own.split(","))]
        assert values, f"no metric {name}{labels or ''}"
        return sum(values)

    def readiness(self) -> int:
        """The status of GET /readyz."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.frontend}/readyz", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as refusal:
            return refusal.code


async def seconds_until(condition: Callable[[], bool], limit: float) -> float:
    """How long it takes until something outside this process holds; fails the test at the limit."""
    began = time.monotonic()
    while not await asyncio.to_thread(condition):
        assert time.monotonic() - began < limit, f"still not so after {limit:g} s"
        await asyncio.sleep(POLL)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and only not yet waited for does not."""
    fields = _status(pid)
    return fields is not None and fields[0] not in "ZX"


def _parent(pid: int) -> int | None:
    fields = _status(pid)
    return int(fields[1]) if fields is not None else None


def _status(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
