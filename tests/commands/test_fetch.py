"""A checkpoint from a hub: whole or not there, whatever the line and the hub do meanwhile."""

import io
import threading
from pathlib import Path

import pytest

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
from commands.ports import free_ports
from tests.commands.fetching import IMPATIENT, WEIGHTS, content, get, nothing_is_served, unfinished
from tests.commands.local_hub import COMMIT, LATER_COMMIT, Hub, serving
from tts_engine import Engine, EngineConfig


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
