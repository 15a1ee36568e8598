"""Where a checkpoint lies until it is whole, and how it becomes one: by a single rename.

A folder with its right name is complete and verified; an unfinished one has a hidden name beside it. The record in
both says which commit this is, so that neither a branch that moves nor a second command mixes two commits.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from commands.fetch_errors import DiskFull, Occupied
from commands.fetch_listing import Listing, RemoteFile, Source
from commands.fetch_partial import checksum_of, partial_path

RECORD = ".fetched.json"


class Staging:
    """The unfinished folder of a checkpoint directory. Its files have their names once they are verified."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.folder = out.with_name(f".unfinished-{out.name}")

    def listing(self) -> Listing | None:
        """What a former run has begun, or None."""
        return read_record(self.folder)

    def begin(self, listing: Listing) -> None:
        """Make the folder that of a commit; what it holds of another one is thrown away."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        record = self.folder / RECORD
        unfinished = record.with_suffix(".new")
        unfinished.write_text(json.dumps(listing.to_json(), indent=1), encoding="utf-8")
        unfinished.rename(record)

    def missing(self, listing: Listing) -> list[RemoteFile]:
        return [file for file in listing.files if not (self.folder / file.path).is_file()]

    def arrived(self, listing: Listing) -> int:
        """Bytes on disk, those of broken-off files too."""
        whole = [self.folder / file.path for file in listing.files]
        return sum(_length(path) or _length(partial_path(path)) for path in whole)

    def require_room(self, listing: Listing) -> None:
        """Raises DiskFull when what is still to come does not fit."""
        needed, free = listing.size - self.arrived(listing), shutil.disk_usage(self.folder).free
        if needed > free:
            raise DiskFull(f"{self._out.parent} has {free} bytes free, {listing.repository} needs {needed} more")

    def publish(self) -> None:
        """The last step, which happens wholly or not at all."""
        _sync(self.folder)
        self.folder.rename(self._out)
        _sync(self._out.parent)


@contextmanager
def only_fetcher_of(out: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of a checkpoint directory; the system drops it with the process, however that ends.

    `waiting` is called when another process holds it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f".lock-{out.name}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def held(out: Path, source: Source) -> Listing | None:
    """What a checkpoint directory holds, if it is what is asked for; None when there is none yet.

    Raises Occupied when it holds something else, or has lost a file or a part of one.
    """
    if not out.exists():
        return None
    if out.is_dir() and not any(out.iterdir()):
        if os.path.ismount(out):
            raise Occupied(f"{out} is a mount point, where nothing can appear at once; give a directory inside it")
        return None
    listing = read_record(out)
    if listing is None:
        raise Occupied(f"{out} exists and was not fetched by this command; remove it, or use it by its path")
    if not listing.answers(source):
        raise Occupied(f"{out} holds {listing}, not {source}; remove it or choose another directory")
    for file in listing.files:
        if _length(out / file.path) != file.size:
            raise Occupied(f"{out} is damaged: {file.path} should have {file.size} bytes; remove it and fetch it again")
    return listing


def verify(out: Path, listing: Listing) -> None:
    """Read every byte again. Raises Occupied naming the first file that is not what was fetched."""
    for file in listing.files:
        if (got := checksum_of(out / file.path, file)) != file.checksum:
            raise Occupied(f"{out} is damaged: the checksum of {file.path} should be {file.checksum} and is {got}")


def read_record(folder: Path) -> Listing | None:
    """The record of a folder, or None where there is none that this command has written."""
    try:
        return Listing.from_json(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sync(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
