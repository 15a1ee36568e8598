"""A disk that is too small, fills up or cannot be renamed into, and folders that are somebody else's."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands.fetch_errors import (
    DiskFull,
    Occupied,
)
from tests.commands.fetching import content, get, nothing_is_served
from tests.commands.local_hub import Hub


def test_a_directory_of_somebody_else_is_left_alone(hub: Hub, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(Occupied, match="was not fetched"):
        get(hub, out)
    assert content(out) == {"notes.txt": b"mine"}
    (out / "notes.txt").unlink()
    get(hub, out)


@pytest.fixture
def small_disk(tmp_path: Path, hub: Hub) -> Iterator[Path]:
    """A file system of its own with less room than the checkpoint needs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = hub.size // 2 // 4096 * 4096
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(hub: Hub, small_disk: Path) -> None:
    with pytest.raises(DiskFull, match=rf"has \d+ bytes free, .* needs {hub.size} more"):
        get(hub, small_disk / "checkpoint")
    assert hub.sent == {}
    assert nothing_is_served(small_disk / "checkpoint")


def test_a_disk_that_fills_up_meanwhile_ends_it_and_room_lets_it_go_on(
    hub: Hub, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = small_disk / "checkpoint"
    # Somebody else takes the room that was there when it was asked for.
    monkeypatch.setattr("commands.fetch_staging.Staging.require_room", lambda *_: None)
    with pytest.raises(DiskFull, match=r"No space left on device, \d+ bytes of it are to come"):
        get(hub, out)
    assert nothing_is_served(out)
    subprocess.run(["mount", "-o", f"remount,size={2 * hub.size}", str(small_disk)], check=True)
    before = sum(hub.sent.values())
    get(hub, out)
    assert content(out) == content(hub.folder)
    # Only what was on the way to the full disk comes twice.
    assert sum(hub.sent.values()) - hub.size < before


def test_a_mount_point_is_refused_since_it_cannot_appear_at_once(hub: Hub, small_disk: Path) -> None:
    with pytest.raises(Occupied, match="mount point"):
        get(hub, small_disk)
