"""Downloads, against a hub of two files on a local port. The library reads its address at import, so each
download runs in a process of its own.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from commands.hub import is_hub_id
from commands.ports import free_ports

HUB_ID = "somebody/some-checkpoint"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "speech_tokenizer/config.json": b'{"deeper": true}'}
PROGRAM = """
import sys
from pathlib import Path
from commands import CommandFailed
from commands.hub import HubUnreachable, download
try:
    print(download(sys.argv[1], Path(sys.argv[2])))
except (CommandFailed, HubUnreachable) as failure:
    print(type(failure).__name__, failure)
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP as a download of plain files needs."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *parts: object) -> None:
        """Nothing on the console of the tests."""

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        resolved = f"/{HUB_ID}/resolve/"
        if path.startswith(f"/api/models/{HUB_ID}"):
            siblings = [{"rfilename": name} for name in FILES]
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in FILES.items()
            ]
            info = {"id": HUB_ID, "modelId": HUB_ID, "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(entries if "/tree/" in path else info).encode(), with_body)
        elif path.startswith(resolved) and (name := path.removeprefix(resolved).partition("/")[2]) in FILES:
            self._send(200, FILES[name], with_body)
        else:
            self._send(404, b'{"error": "Repository not found"}', with_body, code="RepoNotFound")

    def _send(self, status: int, body: bytes, with_body: bool, code: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{_etag(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def download(hub_id: str, models: Path, endpoint: str, **environment: str) -> str:
    """The last line that a process prints which downloads."""
    told = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, hub_id, str(models)],
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(models / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()[-1]


def test_a_whole_download_gets_its_name(endpoint: str, tmp_path: Path) -> None:
    folder = Path(download(HUB_ID, tmp_path, endpoint))
    assert folder == tmp_path / "some-checkpoint"
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert [path.name for path in tmp_path.glob(".unfinished*")] == []


def test_what_was_downloaded_is_not_asked_for_again(endpoint: str, tmp_path: Path) -> None:
    first = download(HUB_ID, tmp_path, endpoint)
    [nobody] = free_ports(1)
    assert download(HUB_ID, tmp_path, f"http://127.0.0.1:{nobody}") == first


def test_a_checkpoint_the_hub_does_not_have_is_a_failure_with_its_name(endpoint: str, tmp_path: Path) -> None:
    told = download("somebody/unknown", tmp_path, endpoint)
    assert told.startswith("CommandFailed the hub does not give somebody/unknown")


def test_a_hub_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    [nobody] = free_ports(1)
    assert download(HUB_ID, tmp_path, f"http://127.0.0.1:{nobody}").startswith("HubUnreachable")


def test_an_offline_machine_is_told_apart_from_a_failure(endpoint: str, tmp_path: Path) -> None:
    assert download(HUB_ID, tmp_path, endpoint, HF_HUB_OFFLINE="1").startswith("HubUnreachable")


def test_an_unfinished_download_is_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    unfinished = tmp_path / ".unfinished-some-checkpoint"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{}")
    [nobody] = free_ports(1)
    assert download(HUB_ID, tmp_path, f"http://127.0.0.1:{nobody}").startswith("HubUnreachable")


@pytest.mark.parametrize("name", ["Qwen/Qwen3-TTS-12Hz-0.6B-Base", "a/b"])
def test_an_owner_and_a_name_are_a_hub_id(name: str) -> None:
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["demo", "/a/b", "./a", "../a", "a/b/c", "a/", "a/.hidden"])
def test_a_path_is_no_hub_id(name: str) -> None:
    assert not is_hub_id(name)
