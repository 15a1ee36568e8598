"""scripts/fetch_weights as a script meets it: what it prints, its exit status, and its end by a signal."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from commands.fetch_errors import FetchFailed
from commands.fetch_weights import parse
from commands.hub_ids import DEFAULT_HUB_ID, RELEASED, is_hub_id
from commands.ports import free_ports
from tests.commands.local_hub import COMMIT, Hub, serving
from tests.conftest import REPOSITORY

COMMAND = [sys.executable, "-P", "-m", "commands.fetch_weights"]
CHOOSE = """
import os, sys
from pathlib import Path
from commands import CommandFailed
from commands.checkpoint import choose_checkpoint
try:
    print(choose_checkpoint(sys.argv[1], os.environ, Path(sys.argv[2]), Path(sys.argv[2])).directory)
except CommandFailed as failure:
    print(failure)
"""


def environment(hub: Hub, home: Path, **more: object) -> dict[str, str]:
    # A home of its own, so that no token of the user takes part.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CHECKPOINT_"))}
    return {**kept, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), **{k: str(v) for k, v in more.items()}}


def run(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_environment_alone_says_what_to_fetch_and_a_second_run_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "volume" / "checkpoint"
    env = environment(hub, tmp_path, CHECKPOINT_REPO=hub.repository, CHECKPOINT_REVISION=COMMIT, CHECKPOINT_DIR=out)
    first = run(env=env)
    assert (first.returncode, first.stdout) == (0, f"{out} holds {hub.repository} at commit {COMMIT}\n")
    fetching, done = first.stderr.splitlines()
    assert fetching.startswith(f"fetching {hub.repository} at commit {COMMIT} to {out}: ")
    assert "(100 %)" in done
    [nobody] = free_ports(1)
    second = run("--verify", env={**env, "HF_ENDPOINT": f"http://127.0.0.1:{nobody}", "HF_HUB_OFFLINE": "1"})
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")


def test_a_terminated_run_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    out, hub.held = tmp_path / "checkpoint", threading.Event()
    env = environment(hub, tmp_path, CHECKPOINT_REPO=hub.repository, CHECKPOINT_DIR=out)
    running = subprocess.Popen(COMMAND, env=env, stderr=subprocess.PIPE, text=True)
    assert hub.stopped.wait(60)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert "interrupted; the next run goes on" in told
    assert not out.exists()
    hub.held.set()
    again = run(env=env)
    assert again.returncode == 0, again.stderr
    assert "have arrived before" in again.stderr


def test_a_failure_is_one_line_and_an_exit_status(hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"
    env = environment(hub, tmp_path)
    unknown = run("somebody/unknown", "--out", out, env=env)
    assert unknown.returncode == 4
    [line] = unknown.stderr.splitlines()
    assert line.startswith("fetch_weights: the hub does not give somebody/unknown: no such repository")
    [nobody] = free_ports(1)
    away = run(hub.repository, "--out", out, "--endpoint", f"http://127.0.0.1:{nobody}", env=env)
    assert away.returncode == 3
    [line] = away.stderr.splitlines()
    assert "cannot be reached" in line
    assert not out.exists()


def test_an_empty_address_is_none(hub: Hub, tmp_path: Path) -> None:
    program = "from commands.fetch_listing import Source, address; print(address(Source('a/b'), 'c', 'd.json'))"
    env = environment(hub, tmp_path, HF_ENDPOINT="")
    told = subprocess.run([sys.executable, "-P", "-c", program], env=env, capture_output=True, text=True, check=True)
    assert told.stdout == "https://huggingface.co/a/b/resolve/c/d.json\n"


def test_with_an_empty_address_in_the_environment_an_option_still_names_a_hub(hub: Hub, tmp_path: Path) -> None:
    env = environment(hub, tmp_path, HF_ENDPOINT="", HF_TOKEN="")
    fetched = run(hub.repository, "--endpoint", hub.endpoint, "--out", tmp_path / "checkpoint", env=env)
    assert fetched.returncode == 0, fetched.stderr


def test_what_is_whole_but_no_checkpoint_of_this_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with serving(Hub(tmp_path / "hub")) as hub:
        told = run(hub.repository, "--out", tmp_path / "checkpoint", env=environment(hub, tmp_path))
    assert told.returncode == 1
    assert "vocab.json is missing" in told.stderr


def test_serving_a_hub_id_fetches_it_in_the_same_way(hub: Hub, tmp_path: Path) -> None:
    models = tmp_path / "models"

    def choose(**more: str) -> str:
        command = [sys.executable, "-P", "-c", CHOOSE, hub.repository, str(models)]
        env = environment(hub, tmp_path, **more)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    assert f"{hub.repository} is no directory here, and the Hugging Face hub cannot be reached" in choose(
        HF_HUB_OFFLINE="1"
    )
    hub.damaged["model.safetensors"] = 2
    assert "model.safetensors is not what the hub says it is" in choose()
    assert choose() == str(models / "some-checkpoint") == choose(HF_HUB_OFFLINE="1")


def test_options_come_before_the_environment_and_empty_is_not_given() -> None:
    chosen = parse(["a/b", "--revision", "v2"], {"CHECKPOINT_REPO": "c/d", "CHECKPOINT_REVISION": "v1"})
    assert (chosen.repo, chosen.revision) == ("a/b", "v2")
    assert parse([], {"HF_ENDPOINT": "https://hub.example/"}).endpoint == "https://hub.example"
    nothing = dict.fromkeys(["CHECKPOINT_REPO", "CHECKPOINT_REVISION", "CHECKPOINT_DIR", "HF_ENDPOINT"], "")
    unset = parse([], nothing)
    assert (unset.repo, unset.revision, unset.out, unset.endpoint) == (DEFAULT_HUB_ID, None, None, None)


def test_the_help_explains_every_exit_status_and_names_what_is_released() -> None:
    told = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(f"{status} " in told.partition("exit status:")[2] for status in (*range(8), 130, 143))
    assert set(RELEASED) <= set(re.findall(r"[\w./-]+\w", told))


def test_the_document_lists_the_exit_statuses_of_every_failure() -> None:
    text = (REPOSITORY / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    listed = {int(row[1]) for row in re.finditer(r"^\| (\d+)[, \d]* \|", text, re.MULTILINE)}
    kinds = [FetchFailed, *FetchFailed.__subclasses__()]
    assert listed == {0, 2, 130, *(kind.exit_status for kind in kinds)}


@pytest.mark.parametrize("name", [*RELEASED, "a/b"])
def test_an_owner_and_a_name_are_a_hub_id(name: str) -> None:
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["demo", "/a/b", "./a", "../a", "a/b/c", "a/", "a/.hidden"])
def test_a_path_is_no_hub_id(name: str) -> None:
    assert not is_hub_id(name)
