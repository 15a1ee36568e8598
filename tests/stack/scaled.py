"""Two Tritons and two frontends behind a real HAProxy with its shipped configuration, as the profile `scale` runs them.

Each server has a loopback address of its own, so that they share their ports as containers do, and a real name server
tells HAProxy the addresses. Knows processes and counts; not what is spoken.
"""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dnslib import QTYPE, RR, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from commands.ports import free_ports
from commands.triton_installation import TritonInstallation
from commands.triton_server import HOST, SHARED_MEMORY, TritonPorts, server_command
from tests.conftest import REPOSITORY

CONFIG = REPOSITORY / "deploy" / "haproxy" / "haproxy.cfg"
ADDRESSES = ("127.0.0.2", "127.0.0.3")
# Shorter than tests would like to wait; what it does is the same.
SLOW_START = "1s"
# Debian has it where ordinary users do not look.
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass(frozen=True)
class Ports:
    """Of the servers, which all use the same, and of HAProxy."""

    http: int
    grpc: int
    metrics: int
    frontend: int
    names: int
    balanced_grpc: int
    balanced_http: int
    statistics: int


class _Addresses(BaseResolver):
    def resolve(self, request, handler):  # type: ignore[no-untyped-def]
        reply = request.reply()
        if request.q.qtype == QTYPE.A:
            for address in ADDRESSES:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=1))
        return reply


class Server:
    """One process that can be killed and started again, with a group of its own."""

    def __init__(self, start: Callable[[], "subprocess.Popen[bytes]"], shared_memory: str | None = None) -> None:
        self._start = start
        self._shared_memory = shared_memory
        self._process = start()

    def kill(self) -> None:
        """What a crash does: everything of it is gone at once."""
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._shared_memory is not None:
            for left in SHARED_MEMORY.glob(f"{self._shared_memory}*"):
                left.unlink(missing_ok=True)

    def start_again(self) -> None:
        self._process = self._start()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def suspend(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)


class Scaled:
    """All of them. `tritons` and `frontends` are in the order of ADDRESSES."""

    def __init__(self, installation: TritonInstallation, environment: Mapping[str, str], folder: Path) -> None:
        assert HAPROXY is not None, "haproxy is not installed (on Debian: apt install haproxy)"
        self.ports = Ports(*free_ports(8))
        self.url = f"ws://{HOST}:{self.ports.balanced_http}/api/v1/speak"
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._names = DNSServer(_Addresses(), address=HOST, port=self.ports.names, logger=DNSLogger("error"))
        self._names.start_thread()
        self.tritons = [self._triton(installation, address) for address in ADDRESSES]
        self.frontends = [self._frontend(address) for address in ADDRESSES]
        self._haproxy = Server(lambda: self._popen("haproxy", [HAPROXY, "-db", "-f", CONFIG], self._haproxy_settings()))

    def end(self) -> None:
        for server in self._servers().values():
            server.kill()
        self._names.stop()
        self._names.server.server_close()

    def _servers(self) -> dict[str, Server]:
        """Each by the name of its log."""
        tritons = {f"triton-{address}": server for address, server in zip(ADDRESSES, self.tritons, strict=True)}
        frontends = {f"frontend-{address}": server for address, server in zip(ADDRESSES, self.frontends, strict=True)}
        return {"haproxy": self._haproxy, **frontends, **tritons}

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def active(self) -> list[int]:
        """Utterances in a slot, at each Triton; 0 where none answers."""
        return self.shown("tts_active_utterances")

    def shown(self, name: str, label: str = "") -> list[int]:
        """One of the model's own metrics, by a label where it has several, at each Triton; 0 where none answers."""
        return [self._metric(address, name, label) for address in ADDRESSES]

    def sessions(self, backend: str) -> list[int]:
        """Connections or streams that HAProxy has now with each server that it has asked and found well."""
        # A check under way has a star before the result of the last.
        well = [row for row in self._rows(backend) if row["check_status"].removeprefix("* ") == "L7OK"]
        return [int(row["scur"]) for row in well if row["status"].startswith("UP")]

    def served(self, backend: str) -> dict[str, int]:
        """How many sessions each server has had, by its name in haproxy.cfg."""
        return {row["svname"]: int(row["stot"]) for row in self._rows(backend) if row["status"].startswith("UP")}

    def up(self, backend: str) -> int:
        """How many servers HAProxy finds well."""
        return len(self.sessions(backend))

    def is_whole(self) -> bool:
        """Whether every server is well and takes its full share; one that has ended by itself fails the test."""
        for name, server in self._servers().items():
            assert server.lives, f"{name} has ended:\n{self.log(name)}"
        if not self.up("tritons") == self.up("frontends") == len(ADDRESSES):
            return False
        # Only now, since one that has come up meanwhile is slow for longer than this takes.
        rows = [row for backend in ("tritons", "frontends") for row in self._rows(backend)]
        return not any(row["throttle"] not in ("", "100") for row in rows if row["status"].startswith("UP"))

    def statistics(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{HOST}:{self.ports.statistics}{path}", timeout=5) as answer:
            return answer.read().decode()

    def _rows(self, backend: str) -> list[dict[str, str]]:
        try:
            lines = self.statistics("/;csv").removeprefix("# ").splitlines()
        except OSError:
            return []
        return [row for row in csv.DictReader(lines) if row["pxname"] == backend and row["svname"] != "BACKEND"]

    def _metric(self, address: str, name: str, label: str) -> int:
        try:
            with urllib.request.urlopen(f"http://{address}:{self.ports.metrics}/metrics", timeout=5) as answer:
                found = re.search(rf"^{name}{{[^}}]*{label}[^}}]*}} (\S+)$", answer.read().decode(), re.MULTILINE)
        except OSError:
            return 0
        return int(float(found[1])) if found is not None else 0

    def _haproxy_settings(self) -> dict[str, str]:
        ports = self.ports
        return {
            "SLOW_START": SLOW_START,
            "NAMESERVER": f"{HOST}:{ports.names}",
            "TRITON_GRPC_PORT": str(ports.grpc),
            "TRITON_HTTP_PORT": str(ports.http),
            "FRONTEND_PORT": str(ports.frontend),
            "GRPC_BIND": f"{HOST}:{ports.balanced_grpc}",
            "HTTP_BIND": f"{HOST}:{ports.balanced_http}",
            "STATS_BIND": f"{HOST}:{ports.statistics}",
        }

    def _triton(self, installation: TritonInstallation, address: str) -> Server:
        prefix = f"qwen3_tts_{uuid.uuid4().hex[:12]}_"
        ports = TritonPorts(self.ports.http, self.ports.grpc, self.ports.metrics)
        command = server_command(installation, REPOSITORY / "model_repository", ports, prefix)
        moved = [part.replace(f"address={HOST}", f"address={address}") for part in command]
        environment = installation.environment(self._environment)

        def start() -> "subprocess.Popen[bytes]":
            return self._popen(f"triton-{address}", [*moved, "--load-model=qwen3_tts"], environment)

        return Server(start, prefix)

    def _frontend(self, address: str) -> Server:
        settings = {
            "FRONTEND_HOST": address,
            "FRONTEND_PORT": str(self.ports.frontend),
            "FRONTEND_TRITON_URL": f"{HOST}:{self.ports.balanced_grpc}",
            "FRONTEND_TRITON_BALANCED": "true",
        }
        command = [sys.executable, "-P", "-m", "frontend"]
        return Server(lambda: self._popen(f"frontend-{address}", command, settings))

    def _popen(self, name: str, command: list[str | Path], settings: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                env={**self._environment, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
