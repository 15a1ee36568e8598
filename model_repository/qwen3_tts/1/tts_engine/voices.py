"""Voices: folders with a manifest, and the speakers of a checkpoint.

One identity may hold several recipes (a speaker's name, a description); the loaded checkpoint decides which is
used. A name that comes from outside is looked up in a table made at start and never becomes part of a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError, UnknownVoice, Unsupported
from .model_config import ModelConfig

_VOICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEYS = frozenset(
    [
        "name",
        "description",
        "language",
        "reference_audio",
        "reference_text",
        "speaker",
        "instruct",
        "source",
        "licence",
    ]
)


@dataclass(frozen=True)
class Manifest:
    """voices/<id>/manifest.json: who a voice is and how each kind of checkpoint makes it."""

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


@dataclass(frozen=True)
class Voice:
    """A voice as the loaded checkpoint makes it.

    speaker_id: its row of the codec vocabulary, or None where the checkpoint has no speakers.
    dialect: the language its speaker overrides Chinese with. instruct: used when a request brings none.
    """

    id: str
    language: str | None = None
    speaker_id: int | None = None
    dialect: str | None = None
    instruct: str | None = None


def read_manifests(folder: Path | None) -> dict[str, Manifest]:
    """All voices of a folder by id; none when it is None.

    Raises SettingsError naming the file and key for anything malformed.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise SettingsError(f"the voices directory {folder} does not exist")
    return {path.name: _read_manifest(path) for path in sorted(folder.iterdir()) if path.is_dir()}


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    if not _VOICE_ID.fullmatch(folder.name):
        raise SettingsError(f"{folder.name!r} is no voice id: it must match {_VOICE_ID.pattern}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise SettingsError(f"{path} must be a JSON object with a name")
    for key, value in values.items():
        if key not in _KEYS:
            raise SettingsError(f"{path} has the unknown key {key!r}; known: {', '.join(sorted(_KEYS))}")
        if not isinstance(value, str):
            raise SettingsError(f"{path}: {key} must be a text, got {value!r}")
    return Manifest(id=folder.name, **values)


class VoiceBook:
    """Every voice a request may name, resolved for one checkpoint."""

    def __init__(self, config: ModelConfig, manifests: Mapping[str, Manifest], default: str) -> None:
        self._config, self._manifests, self.default = config, manifests, default

    @property
    def ids(self) -> list[str]:
        """Ids of the voice folders this checkpoint can make."""
        if self._config.type == "voice_design":
            return [m.id for m in self._manifests.values() if m.instruct]
        return [m.id for m in self._manifests.values() if self._speaker_of(m) is not None]

    def resolve(self, name: str | None) -> Voice:
        """The voice a request named, or the default one.

        Raises UnknownVoice, listing what there is, and Unsupported for a checkpoint whose voices are not served.
        """
        if self._config.type == "base":
            raise Unsupported("Base checkpoints speak in cloned voices only, which this version does not serve")
        if name is None:
            return self._default_voice()
        manifest = self._manifests.get(name)
        if self._config.type == "voice_design":
            if manifest is None or not manifest.instruct:
                raise self._unknown(name)
            return Voice(id=name, language=manifest.language, instruct=manifest.instruct)
        speaker = self._speaker_of(manifest) if manifest is not None else name.lower()
        if speaker is None or speaker not in self._config.speakers:
            raise self._unknown(name)
        return self._speaker_voice(name if manifest is not None else speaker, speaker, manifest)

    def _default_voice(self) -> Voice:
        """The configured default; where the checkpoint cannot make it, its first speaker, or none at all."""
        manifest = self._manifests.get(self.default)
        if self._config.type == "voice_design":
            instruct, language = (manifest.instruct, manifest.language) if manifest else (None, None)
            return Voice(id=self.default if instruct else "undescribed", language=language, instruct=instruct)
        speaker = self._speaker_of(manifest) if manifest is not None else None
        if speaker is not None:
            return self._speaker_voice(self.default, speaker, manifest)
        if self.default in self._config.speakers:
            return self._speaker_voice(self.default, self.default, None)
        first = next(iter(self._config.speakers), None)
        if first is None:
            raise UnknownVoice("this checkpoint has no speakers")
        return self._speaker_voice(first, first, None)

    def _speaker_of(self, manifest: Manifest) -> str | None:
        speaker = (manifest.speaker or "").lower()
        return speaker if speaker in self._config.speakers else None

    def _speaker_voice(self, name: str, speaker: str, manifest: Manifest | None) -> Voice:
        return Voice(
            id=name,
            language=manifest.language if manifest else None,
            speaker_id=self._config.speakers[speaker],
            dialect=self._config.dialects.get(speaker),
        )

    def _unknown(self, name: str) -> UnknownVoice:
        known = ", ".join(sorted({*self.ids, *self._config.speakers})) or "none"
        return UnknownVoice(f"voice {name[:80]!r} is not known; this server has: {known}")
