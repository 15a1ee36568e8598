"""A file that is arriving: the bytes on disk and the checksum of just those, kept in step.

Knows no network. What a killed process has written is read again and goes into the checksum like what comes later.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commands.fetch_errors import DiskFull, cannot_be_stored
from commands.fetch_listing import RemoteFile

SUFFIX = ".part"
PIECE = 1 << 20
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class PartialFile:
    """Appends to `target` plus SUFFIX; `finish` gives the file its name. One process may use it."""

    def __init__(self, target: Path, file: RemoteFile) -> None:
        self._target, self._file = target, file
        self._path = partial_path(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that the length on disk is what the checksum has seen.
        self._disk = self._path.open("ab", buffering=0)
        self._checksum = _new_checksum(file)
        self.length = 0
        """Bytes on disk."""
        self._read_what_is_there()

    def append(self, piece: bytes) -> None:
        """Raises DiskFull; what did fit is kept."""
        view = memoryview(piece)
        while view:
            try:
                written = self._disk.write(view) or 0
            except OSError as error:
                if error.errno in NO_ROOM:
                    left = self._file.size - self.length
                    raise DiskFull(f"{self._path}: {error.strerror}, {left} bytes of it are to come") from error
                raise cannot_be_stored(self._path, error) from error
            self._checksum.update(view[:written])
            self.length += written
            view = view[written:]

    def restart(self) -> None:
        """Forget all of it."""
        self._disk.truncate(0)
        self._checksum = _new_checksum(self._file)
        self.length = 0

    @property
    def checksum(self) -> str:
        """Of the bytes on disk, hexadecimal, in the kind the hub knows of this file."""
        return self._checksum.hexdigest()

    def finish(self) -> None:
        """Give the file its name, on disk for good: a power cut must not leave a name without its bytes."""
        os.fsync(self._disk.fileno())
        self._path.rename(self._target)

    def close(self) -> None:
        self._disk.close()

    def _read_what_is_there(self) -> None:
        with self._path.open("rb") as disk:
            while piece := disk.read(PIECE):
                self._checksum.update(piece)
                self.length += len(piece)
        if self.length > self._file.size:
            self.restart()


@contextmanager
def partial_file(target: Path, file: RemoteFile) -> Iterator[PartialFile]:
    """Opens it, and closes it whatever happens."""
    partial = PartialFile(target, file)
    try:
        yield partial
    finally:
        partial.close()


def partial_path(target: Path) -> Path:
    """Where a file lies until it is whole."""
    return target.with_name(target.name + SUFFIX)


def checksum_of(path: Path, file: RemoteFile) -> str:
    """The checksum of a whole file on disk."""
    checksum = _new_checksum(file, path.stat().st_size)
    with path.open("rb") as disk:
        while piece := disk.read(PIECE):
            checksum.update(piece)
    return checksum.hexdigest()


def _new_checksum(file: RemoteFile, size: int | None = None) -> "hashlib._Hash":
    if file.sha256 is not None:
        return hashlib.sha256()
    # Git names a blob by the SHA-1 of its length and its bytes.
    length = file.size if size is None else size
    return hashlib.sha1(f"blob {length}\0".encode(), usedforsecurity=False)
