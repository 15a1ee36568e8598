"""A real Prometheus with the configuration that is shipped, and the questions a dashboard asks it.

Only the addresses are the test's, which come from files beside the configuration, as those of any server may, and the
pace: it asks every second.
"""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands.ports import free_ports
from tests.conftest import REPOSITORY

SHIPPED = REPOSITORY / "deploy" / "prometheus"
SHIPPED_PACE = "scrape_interval: 5s\n  scrape_timeout: 4s\n  evaluation_interval: 5s\n"
PACE = "scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n"
# What Grafana makes of $__rate_interval: four times the interval of the data source.
RATE_INTERVAL = "4s"
START_TIMEOUT = 30.0
POLL = 0.1


class Prometheus:
    """A running server, asked over its HTTP interface."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer. Fails the test when Prometheus calls the question wrong."""
        url = f"{self._address}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            raise AssertionError(f"{parameters}: {refusal.read().decode()}") from None

    def values(self, expression: str) -> list[float]:
        """What an expression is now, one value for each series."""
        data = self.get("/api/v1/query", query=expression)
        return [float(series["value"][1]) for series in data["result"]]

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Prometheus with the shipped files; targets: an address for each job that has one here."""
    command = shutil.which("prometheus")
    assert command is not None, "Prometheus is not installed (on Debian: apt-get install prometheus)"
    shutil.copy2(SHIPPED / "rules.yml", folder / "rules.yml")
    shipped = (SHIPPED / "prometheus.yml").read_text(encoding="utf-8")
    assert shipped.count(SHIPPED_PACE) == 1
    (folder / "prometheus.yml").write_text(shipped.replace(SHIPPED_PACE, PACE), encoding="utf-8")
    (folder / "targets").mkdir()
    for job, address in targets.items():
        (folder / "targets" / f"{job}.yml").write_text(json.dumps([{"targets": [address]}]))
    [port] = free_ports(1)
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([command, *options], stdout=log, stderr=subprocess.STDOUT)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + START_TIMEOUT
        while not server.is_up():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, f"Prometheus is not ready after {START_TIMEOUT:g} s"
            time.sleep(POLL)
        yield server
    finally:
        process.terminate()
        process.wait(START_TIMEOUT)
