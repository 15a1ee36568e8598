"""scripts/environment.sh: which Python it takes, and what it installs when."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "environment.sh"


@pytest.fixture
def interpreters(tmp_path: Path) -> Path:
    """A folder that takes the place of PATH; it holds nothing but a shell and what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "dirname"):
        (folder / tool).symlink_to(Path("/usr/bin") / tool)
    return folder


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f"source {SCRIPT}; {program}", "a-command"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def test_without_a_fitting_python_it_says_so_in_one_line(interpreters: Path) -> None:
    put(interpreters, "python3", "exit 1")
    refused = run("find_python", PATH=str(interpreters))
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert "Python 3.11 or 3.12" in line


def test_a_python_that_fits_is_preferred_to_one_that_is_newer(interpreters: Path) -> None:
    put(interpreters, "python3", "exit 1")
    put(interpreters, "python3.12", "exit 0")
    found = run("find_python", PATH=str(interpreters))
    assert found.stdout.strip() == str(interpreters / "python3.12")


def test_a_python_of_pyenv_is_found(interpreters: Path, tmp_path: Path) -> None:
    put(interpreters, "pyenv", f"echo {tmp_path / 'pyenv'}")
    version = tmp_path / "pyenv" / "versions" / "3.12.7" / "bin"
    version.mkdir(parents=True)
    put(version, "python", "exit 0")
    found = run("find_python", PATH=str(interpreters))
    assert found.stdout.strip() == str(version / "python")


def test_the_versions_it_takes_are_those_of_the_project() -> None:
    assert run(f"python_fits {sys.executable}", PATH=os.environ["PATH"]).returncode == 0
    assert 'requires-python = ">=3.11,<3.13"' in (REPOSITORY / "pyproject.toml").read_text()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of its own whose interpreter only notes how it was called."""
    copy = tmp_path / "copy"
    (copy / "scripts").mkdir(parents=True)
    (copy / "scripts" / "environment.sh").write_text(SCRIPT.read_text())
    (copy / "pyproject.toml").write_text("one")
    (copy / ".venv" / "bin").mkdir(parents=True)
    put(copy / ".venv" / "bin", "python", f'[ "$1" = -c ] || echo "$@" >>{copy / "calls"}')
    return copy


def ensure(copy: Path, *extras: str) -> list[str]:
    """What pip was asked to install."""
    (copy / "calls").unlink(missing_ok=True)
    program = f"source {copy}/scripts/environment.sh; ensure_environment {' '.join(extras)}"
    subprocess.run(["bash", "-c", program], cwd="/", check=True, capture_output=True, timeout=60)
    return (copy / "calls").read_text().splitlines() if (copy / "calls").exists() else []


def test_only_extras_that_are_missing_are_installed(copy: Path) -> None:
    assert ensure(copy, "engine", "client") == [f"-m pip install --quiet --editable {copy}[engine,client]"]
    assert ensure(copy, "client") == []
    assert ensure(copy, "client", "test") == [f"-m pip install --quiet --editable {copy}[test]"]


def test_a_changed_project_is_installed_anew(copy: Path) -> None:
    ensure(copy, "client")
    (copy / "pyproject.toml").write_text("two")
    assert len(ensure(copy, "client")) == 1


def test_commands_that_start_at_once_install_once(copy: Path) -> None:
    put(copy / ".venv" / "bin", "python", f'[ "$1" = -c ] || {{ sleep 0.2; echo "$@" >>{copy / "calls"}; }}')
    program = f"source {copy}/scripts/environment.sh; ensure_environment engine"
    started = [subprocess.Popen(["bash", "-c", program], stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert len((copy / "calls").read_text().splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "render", "make_demo_model", "perf_analyzer", "test", "speak"])
def test_each_command_is_executable_and_uses_the_environment(command: str) -> None:
    script = REPOSITORY / "scripts" / command
    assert os.access(script, os.X_OK)
    assert "ensure_environment" in script.read_text()
