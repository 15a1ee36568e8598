"""All voice folders under one directory, read when they are asked for, and again when they change.

A name that comes from outside is compared with the names the directory lists; it never becomes part of a path.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import VoiceError
from .manifests import MANIFEST, Manifest, Reference, read_manifest, read_reference

log = logging.getLogger(__name__)

_ATTEMPTS = 3


@dataclass(frozen=True)
class VoiceFolder:
    """One voice as read from disk; stamp tells whether the files have changed since."""

    manifest: Manifest
    reference: Reference | None
    stamp: tuple[object, ...]


class VoiceLibrary:
    """All voice folders under one directory, read again when they change. May be used by any thread."""

    def __init__(self, folder: Path | None) -> None:
        """folder: None is an empty library. Raises VoiceError when it does not exist."""
        if folder is not None and not folder.is_dir():
            raise VoiceError(f"the voices directory {folder} does not exist")
        self._folder = folder
        self._known: dict[str, VoiceFolder] = {}
        self._complaints: dict[str, str] = {}

    def names(self) -> list[str]:
        """Ids of the folders there are now; hidden ones are no voices, so one can be made there and then renamed."""
        if self._folder is None:
            return []
        try:
            with os.scandir(self._folder) as entries:
                folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            self._complain(str(self._folder), f"cannot list the voices: {error}")
            return []
        return sorted(name for name in folders if not name.startswith("."))

    def check(self) -> dict[str, VoiceFolder]:
        """Read every voice. Raises VoiceError for the first that cannot be used."""
        return {name: self._read(name) for name in self.names()}

    def manifests(self) -> list[Manifest]:
        """Manifests of all voices that can be read; those that cannot are logged."""
        found, names = [], self.names()
        for gone in {*self._complaints}.difference(names, [str(self._folder)]):
            self._complaints.pop(gone, None)
        for name in names:
            try:
                found.append(self._read(name).manifest)
            except VoiceError as error:
                self._complain(name, str(error))
        return found

    def get(self, name: str) -> VoiceFolder | None:
        """The voice `name` as its files are now; None when there is no such folder. Raises VoiceError."""
        names = self.names()
        for gone in self._known.keys() - names:
            self._known.pop(gone, None)
        return self._read(name) if name in names else None

    def _read(self, name: str) -> VoiceFolder:
        assert self._folder is not None, "only names that were listed are read"
        folder = self._folder / name
        known = self._known.get(name)
        if known is not None and known.stamp == _stamp(folder, known.manifest):
            return known
        for _ in range(_ATTEMPTS):
            manifest = read_manifest(folder)
            stamp = _stamp(folder, manifest)
            voice = VoiceFolder(manifest, read_reference(folder, manifest), stamp)
            # Were a file replaced in between, the old words could stay with the new sound.
            if read_manifest(folder) == manifest and _stamp(folder, manifest) == stamp:
                self._known[name] = voice
                return voice
        raise VoiceError(f"voice {name!r} keeps changing while it is read")

    def _complain(self, name: str, problem: str) -> None:
        """Log a problem, once for as long as it stays the same."""
        if self._complaints.get(name) != problem:
            self._complaints[name] = problem
            log.warning("%s", problem)


def _stamp(folder: Path, manifest: Manifest) -> tuple[object, ...]:
    """Sizes and times of a voice's files. Raises VoiceError when one is missing."""
    names = [MANIFEST, *([manifest.reference_audio] if manifest.reference_audio else [])]
    try:
        stats = [os.stat(folder / name) for name in names]
    except (OSError, ValueError) as error:
        raise VoiceError(f"cannot read voice {folder.name!r}: {error}") from error
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
