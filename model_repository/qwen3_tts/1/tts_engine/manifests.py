"""One voice folder: voices/<id>/manifest.json and the recording it names, read with care."""

from __future__ import annotations

import hashlib
import json
import logging
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


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a voice folder. Raises VoiceError naming the file and key for anything malformed."""
    path = folder / MANIFEST
    if not VOICE_ID.fullmatch(folder.name):
        raise VoiceError(f"{folder.name!r} is no voice id: it must match {VOICE_ID.pattern}")
    _require_plain_file(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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


def read_reference(folder: Path, manifest: Manifest) -> Reference | None:
    """The recording of a voice folder, if its manifest names one. Raises VoiceError when it cannot be cloned."""
    if manifest.reference_audio is None:
        return None
    path = folder / manifest.reference_audio
    _require_plain_file(path)
    samples, rate = read_recording(path)
    try:
        reference = Reference.of(samples, rate, manifest.reference_text)
    except InvalidRequest as error:
        raise VoiceError(f"{path}: {error}") from error
    share = clipped_share(samples)
    if share > CLIPPED_SHARE:
        log.warning("%s is clipped: %.2f %% of its samples are at full scale", path, 100 * share)
    return reference


def _require_plain_file(path: Path) -> None:
    """A link could lead out of the folder, a pipe would keep its reader waiting. Raises VoiceError."""
    if path.is_symlink():
        raise VoiceError(f"{path} is a link; a voice's files must lie in its folder")
    if not path.is_file():
        raise VoiceError(f"cannot read {path}: there is no such file")
