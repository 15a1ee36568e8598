"""A hub on local ports, in the layout of Hugging Face's: the API, files behind a redirect to another host, ranges.

It serves one repository from a folder, counts what it sends, and fails on demand as the real one and its lines do.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
PIECE = 16_384


@dataclass
class Hub:
    """What the hub holds, does wrong, and has seen. Tests change it while it runs."""

    folder: Path
    repository: str = "somebody/some-checkpoint"
    commit: str = COMMIT
    token: str | None = None
    """Without this one in the request the repository is not there."""
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """For a file, after how many bytes its next answers break off."""
    damaged: dict[str, int] = field(default_factory=dict)
    """For a file, how many of its next answers have a wrong byte in them."""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """For a file, the statuses of its next answers."""
    ignores_ranges: bool = False
    held: threading.Event | None = None
    """While it is not set, files stop after their first piece."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when a file has stopped so."""
    sent: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens_on_the_second_host: list[str] = field(default_factory=list)
    endpoint: str = ""
    second_host: str = ""

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


def is_large(name: str) -> bool:
    """Whether a file is one of those that the hub keeps outside of Git."""
    return name.endswith(".safetensors")


def git_blob(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def info(hub: Hub) -> dict[str, Any]:
    """The answer of /api/models/…?blobs=True."""
    siblings = []
    for name in hub.names():
        data = (hub.folder / name).read_bytes()
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_blob(data)}
        if is_large(name):
            sha256 = hashlib.sha256(data).hexdigest()
            entry["blobId"] = git_blob(b"a pointer to " + sha256.encode())
            entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
        siblings.append(entry)
    return {"id": hub.repository, "modelId": hub.repository, "sha": hub.commit, "siblings": siblings}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *parts: object) -> None:
        """Nothing on the console of the tests."""

    def do_GET(self) -> None:
        hub = self.server.hub
        path = unquote(self.path.partition("?")[0])
        hub.asked.append(path)
        if path.startswith("/second-host/"):
            return self.file(hub, path.removeprefix("/second-host/"))
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer(401, b"", {"X-Error-Message": "Invalid username or password."})
        if found := re.fullmatch(f"/api/models/{hub.repository}/revision/(.+)", path):
            if found[1] not in ("main", hub.commit):
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return self.answer(200, json.dumps(info(hub)).encode(), {"Content-Type": "application/json"})
        if (found := re.fullmatch(f"/{hub.repository}/resolve/{hub.commit}/(.+)", path)) and found[1] in hub.names():
            return self.resolve(hub, found[1])
        return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def resolve(self, hub: Hub, name: str) -> None:
        if hub.statuses.get(name):
            return self.answer(hub.statuses[name].pop(0), b"")
        if is_large(name):
            return self.answer(302, b"", {"Location": f"{hub.second_host}/second-host/{name}"})
        return self.file(hub, name)

    def file(self, hub: Hub, name: str) -> None:
        if self.path.startswith("/second-host/") and (token := self.headers.get("Authorization")):
            hub.tokens_on_the_second_host.append(token)
        data = bytearray((hub.folder / name).read_bytes())
        if hub.damaged.get(name):
            hub.damaged[name] -= 1
            data[len(data) // 2] ^= 1
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(begin[1]) if begin and not hub.ignores_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("X-Repo-Commit", hub.commit)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        cuts = hub.cut_after.get(name)
        end = min(start + cuts.pop(0), len(data)) if cuts else len(data)
        self.send(hub, name, bytes(data[start:end]))
        if end < len(data):
            self.close_connection = True

    def send(self, hub: Hub, name: str, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            piece = data[at : at + PIECE]
            self.wfile.write(piece)
            hub.sent[name] = hub.sent.get(name, 0) + len(piece)
            if hub.held is not None and is_large(name):
                self.wfile.flush()
                hub.stopped.set()
                hub.held.wait(60)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub

    def handle_error(self, *parts: object) -> None:
        """A client that leaves in the middle is what some tests are about."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on two ports, which are two hosts to a client."""
    servers = [Server(hub), Server(hub)]
    hub.endpoint, hub.second_host = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        if hub.held is not None:
            hub.held.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
