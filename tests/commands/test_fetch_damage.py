"""Bytes that are not what the hub says they are, before, between and after fetches."""

import hashlib
import os
from pathlib import Path

import pytest

from commands.fetch_errors import (
    ChecksumMismatch,
    ConnectionLost,
    Occupied,
)
from commands.fetch_staging import verify
from tests.commands.fetching import WEIGHTS, content, get, nothing_is_served, unfinished
from tests.commands.local_hub import Hub


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
