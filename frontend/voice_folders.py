"""The voices directory as the frontend sees it: manifests for people to read, folders made and removed in one step.

The model reads the same folders and notices changes by itself. A name from outside is compared with the names there
are; it never becomes part of a path. Nothing here decodes sound, and nothing here knows HTTP.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

VOICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MANIFEST = "manifest.json"
RECORDING = "reference.wav"


class VoiceExists(Exception):
    """There is a folder of that name already."""


class NoSuchVoice(Exception):
    """There is no voice folder of that name."""


class VoiceFolders:
    """The folders in one directory. Its methods touch the disk, so call them off the event loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def manifests(self) -> dict[str, Mapping[str, str]]:
        """The manifests that can be read, by voice id; the model's log says what is wrong with the others."""
        found: dict[str, Mapping[str, str]] = {}
        for name in self._names():
            try:
                manifest = json.loads((self._directory / name / MANIFEST).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(manifest, dict):
                found[name] = {key: value for key, value in manifest.items() if isinstance(value, str)}
        return found

    def workspace(self) -> tempfile.TemporaryDirectory[str]:
        """A hidden folder, which is no voice, to make one in. Raises OSError."""
        return tempfile.TemporaryDirectory(prefix=".adding-", dir=self._directory)

    def add(self, name: str, manifest: Mapping[str, str], workspace: Path) -> None:
        """Makes a voice of a manifest and the RECORDING in the workspace; it appears whole or not at all.

        name: matches VOICE_ID. Raises VoiceExists, OSError.
        """
        if not VOICE_ID.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is no voice id: it must match {VOICE_ID.pattern}")
        folder = workspace / name
        folder.mkdir()
        text = json.dumps({**manifest, "reference_audio": RECORDING}, ensure_ascii=False, indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        (workspace / RECORDING).rename(folder / RECORDING)
        target = self._directory / name
        if os.path.lexists(target):
            raise VoiceExists(f"there is a voice {name!r} already")
        # Renaming replaces nothing but an empty folder, should one have appeared meanwhile.
        folder.rename(target)

    def remove(self, name: str) -> None:
        """Deletes a voice. Raises NoSuchVoice, OSError."""
        folder = next((self._directory / known for known in self._names() if known == name), None)
        if folder is None or not (folder / MANIFEST).is_file():
            raise NoSuchVoice(f"there is no voice {name[:80]!r} that could be removed")
        workspace = Path(tempfile.mkdtemp(prefix=".removing-", dir=self._directory))
        try:
            folder.rename(workspace / name)
        finally:
            shutil.rmtree(workspace)

    def _names(self) -> list[str]:
        with os.scandir(self._directory) as entries:
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return [name for name in folders if VOICE_ID.fullmatch(name)]
