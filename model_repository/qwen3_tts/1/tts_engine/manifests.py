"""Voice folders: voices/<id>/manifest.json and the recording it names, read with care and noticed when they change.

A name that comes from outside is compared with the names the folder lists; it never becomes part of a path.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import soundfile

from .audio import CLIPPED_SHARE, MAX_REFERENCE_SECONDS, Samples, clipped_share, reference_samples
from .config import SAMPLES_PER_FRAME
from .errors import InvalidRequest, VoiceError

log = logging.getLogger(__name__)

VOICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """manifest.json: who a voice is and how each kind of checkpoint makes it."""

    id: str
    name: str
    description: str = ""
    language: str | None = None
    reference_audio: str | None = None
    reference_text: str | None = None
    speaker: str | None = None
    instruct: str | None = None
    source: str | None = None
    licence: str | None = None


_KEYS = frozenset(field.name for field in fields(Manifest)) - {"id"}


@dataclass(frozen=True, eq=False)
class Reference:
    """A recording to clone. samples: float32 (N,) mono at 24 kHz. key stands for its content and transcript."""

    samples: Samples
    text: str | None
    key: str

    @property
    def frames(self) -> int:
        """How many frames of codes it will have."""
        return -(-len(self.samples) // SAMPLES_PER_FRAME)

    @classmethod
    def of(cls, samples: Samples, sample_rate: int, text: str | None) -> Reference:
        """Check and convert a recording, (N,) or (N, channels). Raises InvalidRequest."""
        ready = reference_samples(samples, sample_rate)
        words = (text or "").strip() or None
        # The length keeps the sound and the words apart: without it, words could pass for the last samples.
        digest = hashlib.sha256(b"%d\0" % len(ready) + np.ascontiguousarray(ready).tobytes())
        digest.update((words or "").encode("utf-8", "surrogatepass"))
        return cls(ready, words, digest.hexdigest())


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

    def names(self) -> list[str]:
        """Ids of the folders there are now; hidden ones are no voices, so one can be made there and then renamed."""
        if self._folder is None:
            return []
        with os.scandir(self._folder) as entries:
            folders = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            return sorted(name for name in folders if not name.startswith("."))

    def check(self) -> dict[str, VoiceFolder]:
        """Read every voice. Raises VoiceError for the first that cannot be used."""
        return {name: self._read(name) for name in self.names()}

    def manifests(self) -> list[Manifest]:
        """Manifests of all voices that can be read; those that cannot are logged."""
        found = []
        for name in self.names():
            try:
                found.append(self._read(name).manifest)
            except VoiceError as error:
                log.warning("%s", error)
        return found

    def get(self, name: str) -> VoiceFolder | None:
        """The voice `name` as its files are now; None when there is no such folder. Raises VoiceError."""
        return self._read(name) if name in self.names() else None

    def _read(self, name: str) -> VoiceFolder:
        assert self._folder is not None, "only names that were listed are read"
        folder = self._folder / name
        known = self._known.get(name)
        if known is not None and known.stamp == _stamp(folder, known.manifest):
            return known
        manifest = read_manifest(folder)
        stamp = _stamp(folder, manifest)
        voice = VoiceFolder(manifest, _read_reference(folder, manifest), stamp)
        self._known[name] = voice
        return voice


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a voice folder. Raises VoiceError naming the file and key for anything malformed."""
    path = folder / MANIFEST
    if not VOICE_ID.fullmatch(folder.name):
        raise VoiceError(f"{folder.name!r} is no voice id: it must match {VOICE_ID.pattern}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VoiceError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise VoiceError(f"{path} must be a JSON object with a name")
    for key, value in values.items():
        if key not in _KEYS:
            raise VoiceError(f"{path} has the unknown key {key!r}; known: {', '.join(sorted(_KEYS))}")
        if not isinstance(value, str):
            raise VoiceError(f"{path}: {key} must be a text, got {value!r}")
    audio = values.get("reference_audio")
    if audio is not None and (Path(audio).name != audio or audio in ("", ".", "..")):
        raise VoiceError(f"{path}: reference_audio must be the name of a file in the same folder, got {audio!r}")
    return Manifest(id=folder.name, **values)


def read_recording(path: Path) -> tuple[Samples, int]:
    """A sound file as float32 (N, channels) and its rate; no more is read than could be used.

    Raises VoiceError when it cannot be read.
    """
    try:
        with soundfile.SoundFile(path) as file:
            limit = int((MAX_REFERENCE_SECONDS + 1) * file.samplerate)
            return file.read(limit, dtype="float32", always_2d=True), file.samplerate
    # soundfile raises TypeError for formats without a header, which do not say what they hold.
    except (OSError, TypeError, soundfile.LibsndfileError) as error:
        raise VoiceError(f"cannot read {path}: {error}") from error


def _read_reference(folder: Path, manifest: Manifest) -> Reference | None:
    if manifest.reference_audio is None:
        return None
    path = folder / manifest.reference_audio
    if path.is_symlink():
        raise VoiceError(f"{path} is a link; a voice's recording must be a file in its folder")
    if not path.is_file():
        raise VoiceError(f"{path} is no file")
    samples, rate = read_recording(path)
    try:
        reference = Reference.of(samples, rate, manifest.reference_text)
    except InvalidRequest as error:
        raise VoiceError(f"{path}: {error}") from error
    share = clipped_share(samples)
    if share > CLIPPED_SHARE:
        log.warning("%s is clipped: %.2f %% of its samples are at full scale", path, 100 * share)
    return reference


def _stamp(folder: Path, manifest: Manifest) -> tuple[object, ...]:
    """Sizes and times of a voice's files. Raises VoiceError when one is missing."""
    names = [MANIFEST, *([manifest.reference_audio] if manifest.reference_audio else [])]
    try:
        stats = [os.stat(folder / name) for name in names]
    except (OSError, ValueError) as error:
        raise VoiceError(f"cannot read voice {folder.name!r}: {error}") from error
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
