"""A checkpoint from a hub: whole and verified or not there, whatever the line, the hub and the disk do meanwhile."""

import hashlib
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import CommandFailed
from commands.checkpoint import check_checkpoint, checkpoints_in
from commands.fetch import fetch
from commands.fetch_errors import (
    ChecksumMismatch,
    ConnectionLost,
    DiskFull,
    FetchFailed,
    HubUnreachable,
    Occupied,
    Refused,
)
from commands.fetch_listing import Listing, Source
from commands.fetch_progress import Progress
from commands.fetch_staging import RECORD, verify
from commands.fetch_transfer import Patience
from commands.ports import free_ports
from tests.commands.local_hub import COMMIT, LATER_COMMIT, Hub, serving
from tests.conftest import Demo
from tts_engine import CheckpointError, Engine, EngineConfig

IMPATIENT = Patience(attempts=3, first_wait_s=0.001, longest_wait_s=0.001)
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(demo: Demo) -> Iterator[Hub]:
    with serving(Hub(demo())) as running:
        yield running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "models" / "checkpoint"


def get(hub: Hub, out: Path, revision: str | None = None, told: io.StringIO | None = None) -> Listing:
    return fetch(Source(hub.repository, revision, hub.endpoint), out, Progress(told or io.StringIO()), IMPATIENT)


def content(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but the record of the fetching."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def unfinished(out: Path) -> Path:
    return out.with_name(f".unfinished-{out.name}")


def nothing_is_served(out: Path) -> bool:
    """Whether neither a command nor the engine could take what lies there for a checkpoint."""
    with pytest.raises(CheckpointError):
        Engine.load(unfinished(out), EngineConfig(), None, device="cpu")
    with pytest.raises(CommandFailed):
        check_checkpoint(unfinished(out))
    return not out.exists() and checkpoints_in(out.parent) == []


def test_what_is_fetched_is_what_the_hub_holds_and_loads(hub: Hub, out: Path) -> None:
    listing = get(hub, out)
    assert listing.commit == COMMIT
    assert content(out) == content(hub.folder)
    assert not unfinished(out).exists()
    engine = Engine.load(out, EngineConfig(slots=1), None, device="cpu")
    engine.shutdown()


def test_what_is_there_is_not_asked_for_again(hub: Hub, out: Path) -> None:
    first = get(hub, out)
    hub.asked.clear()
    assert get(hub, out) == get(hub, out, "main") == get(hub, out, COMMIT) == first
    assert hub.asked == []


def test_a_cut_download_goes_on_where_it_broke_off(hub: Hub, out: Path) -> None:
    hub.cut_after[WEIGHTS] = [100_000, 50_000]
    told = io.StringIO()
    get(hub, out, told=told)
    assert told.getvalue().count("going on in 0.001 s") == 2
    assert content(out) == content(hub.folder)
    assert sum(hub.sent.values()) == hub.size


def test_the_next_run_goes_on_where_the_last_one_gave_up(hub: Hub, out: Path) -> None:
    hub.cut_after[WEIGHTS] = [100_000, 0, 0, 0]
    with pytest.raises(ConnectionLost, match=rf"{WEIGHTS}.*100000 of \d+ bytes.*run this again"):
        get(hub, out)
    assert nothing_is_served(out)
    told = io.StringIO()
    hub.cut_after.clear()
    get(hub, out, told=told)
    assert "have arrived before" in told.getvalue()
    assert content(out) == content(hub.folder)
    assert sum(hub.sent.values()) == hub.size


def test_a_folder_with_all_but_its_last_file_is_not_served(hub: Hub, out: Path) -> None:
    hub.statuses["config.json"] = [403]
    with pytest.raises(Refused, match=r"config\.json"):
        get(hub, out)
    assert content(unfinished(out)).keys() >= set(hub.names()) - {"config.json"}
    assert nothing_is_served(out)


def test_a_hub_that_ignores_ranges_sends_the_file_anew(hub: Hub, out: Path) -> None:
    hub.cut_after[WEIGHTS], hub.ignores_ranges = [100_000], True
    get(hub, out)
    assert content(out) == content(hub.folder)
    assert hub.sent[WEIGHTS] == (hub.folder / WEIGHTS).stat().st_size + 100_000


@pytest.mark.parametrize("name", [WEIGHTS, "vocab.json"])
def test_a_damaged_file_is_fetched_once_more(hub: Hub, out: Path, name: str) -> None:
    hub.damaged[name] = 1
    get(hub, out)
    assert content(out) == content(hub.folder)


@pytest.mark.parametrize("name", [WEIGHTS, "vocab.json"])
def test_a_file_that_stays_damaged_is_named_with_both_checksums(hub: Hub, out: Path, name: str) -> None:
    hub.damaged[name] = 2
    checksum = "[0-9a-f]{40,64}"
    with pytest.raises(ChecksumMismatch, match=f"{name} .*should be {checksum} and is {checksum}") as told:
        get(hub, out)
    if name == WEIGHTS:
        assert hashlib.sha256((hub.folder / name).read_bytes()).hexdigest() in str(told.value)
    assert nothing_is_served(out)
    get(hub, out)
    assert content(out) == content(hub.folder)


def test_damage_done_between_two_runs_is_found(hub: Hub, out: Path) -> None:
    hub.cut_after[WEIGHTS] = [100_000, 0, 0, 0]
    with pytest.raises(ConnectionLost):
        get(hub, out)
    broken_off = unfinished(out) / f"{WEIGHTS}.part"
    broken_off.write_bytes(bytes(100_000))
    get(hub, out)
    assert content(out) == content(hub.folder)


def test_a_busy_hub_is_asked_again_and_a_refusing_one_is_not(hub: Hub, out: Path) -> None:
    hub.statuses["vocab.json"] = [503, 429]
    get(hub, out)
    hub.statuses["vocab.json"] = [403]
    with pytest.raises(Refused, match=r"vocab\.json"):
        get(hub, out.with_name("other"))


def test_a_branch_is_followed_to_one_commit_and_no_further(hub: Hub, out: Path) -> None:
    hub.cut_after[WEIGHTS] = [100_000, 0, 0, 0]
    with pytest.raises(ConnectionLost):
        get(hub, out, "main")
    # The branch moves on; the commit that was begun is finished all the same.
    hub.commit, before = LATER_COMMIT, hub.commit
    with pytest.raises(Refused):
        get(hub, out, "main")
    hub.commit = before
    assert get(hub, out, "main").commit == COMMIT
    hub.commit = LATER_COMMIT
    assert get(hub, out, "main").commit == COMMIT
    with pytest.raises(Occupied, match=f"holds .*{COMMIT}, not .*{LATER_COMMIT}"):
        get(hub, out, LATER_COMMIT)
    assert get(hub, out.with_name("later"), "main").commit == LATER_COMMIT


def test_an_unfinished_download_of_another_commit_is_thrown_away(hub: Hub, out: Path) -> None:
    hub.cut_after[WEIGHTS] = [100_000, 0, 0, 0]
    with pytest.raises(ConnectionLost):
        get(hub, out, COMMIT)
    hub.commit = LATER_COMMIT
    told = io.StringIO()
    assert get(hub, out, LATER_COMMIT, told).commit == LATER_COMMIT
    assert f"throwing away the unfinished {hub.repository} at commit {COMMIT}" in told.getvalue()


def test_a_damaged_checkpoint_is_named_and_not_mended_under_a_server(hub: Hub, out: Path) -> None:
    listing = get(hub, out)
    verify(out, listing)
    weights = out / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    get(hub, out)
    with pytest.raises(Occupied, match=rf"checksum of {WEIGHTS}"):
        verify(out, listing)
    os.truncate(weights, 10)
    with pytest.raises(Occupied, match=rf"{WEIGHTS} should have {len(data)} bytes"):
        get(hub, out)


def test_a_directory_of_somebody_else_is_left_alone(hub: Hub, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(Occupied, match="was not fetched"):
        get(hub, out)
    assert content(out) == {"notes.txt": b"mine"}
    (out / "notes.txt").unlink()
    get(hub, out)


def test_what_the_hub_does_not_have_is_said(hub: Hub, out: Path) -> None:
    with pytest.raises(Refused, match=r"somebody/unknown: no such repository"):
        fetch(Source("somebody/unknown", None, hub.endpoint), out, Progress(io.StringIO()), IMPATIENT)
    with pytest.raises(Refused, match=r"@v9: no such repository or revision \(404\)"):
        get(hub, out, "v9")


def test_a_repository_without_a_config_is_no_checkpoint(tmp_path: Path, out: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "README.md").write_text("Nothing here.")
    with serving(Hub(tmp_path / "hub")) as hub, pytest.raises(Refused, match=r"it has no config\.json"):
        get(hub, out)


def test_a_token_opens_a_gate_and_stays_on_its_host(hub: Hub, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(Refused, match="HF_TOKEN has no right"):
        get(hub, out)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(hub, out)
    assert content(out) == content(hub.folder)
    assert hub.tokens_on_the_second_host == []


def test_no_network_is_said_before_anything_is_made(hub: Hub, out: Path) -> None:
    [nobody] = free_ports(1)
    hub.endpoint = f"http://127.0.0.1:{nobody}"
    with pytest.raises(HubUnreachable, match="cannot be reached"):
        get(hub, out)
    assert nothing_is_served(out)


def test_two_at_once_fetch_it_once(hub: Hub, out: Path) -> None:
    hub.held = threading.Event()
    told = [io.StringIO(), io.StringIO()]
    listings: list[Listing] = []
    fetchers = [threading.Thread(target=lambda told=told: listings.append(get(hub, out, told=told))) for told in told]
    fetchers[0].start()
    assert hub.stopped.wait(30)
    fetchers[1].start()
    while "waiting for another command" not in told[1].getvalue():
        fetchers[1].join(0.01)
        assert fetchers[1].is_alive()
    hub.held.set()
    for fetcher in fetchers:
        fetcher.join(60)
    assert listings[0] == listings[1]
    assert sum(hub.sent.values()) == hub.size


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


def test_every_failure_has_an_exit_status_of_its_kind() -> None:
    kinds = [HubUnreachable, ConnectionLost, Refused, ChecksumMismatch, DiskFull, Occupied, FetchFailed]
    assert [kind.exit_status for kind in kinds] == [3, 3, 4, 5, 6, 7, 1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "period_s"), [(io.StringIO(), 10), (Terminal(), 0.2)])
def test_progress_tells_bytes_pace_and_what_is_left(stream: io.StringIO, period_s: float) -> None:
    seconds = iter([0.0, 0.0, period_s / 2, *[period_s] * 3])
    progress = Progress(stream, lambda: next(seconds))
    progress.begin(4_000_000, 1_000_000)
    progress.arrived(500_000)
    assert stream.getvalue() == ""
    progress.arrived(500_000)
    pace = 1_000_000 / period_s
    told = stream.getvalue()
    assert told.endswith("\n") != stream.isatty()
    assert "2.0 MB of 4.0 MB (50 %)" in told
    assert f"{round(2_000_000 / pace)} s left" in told
