"""Adding and removing whole voice folders, in one step each, so that a running server never sees half a voice.

Work in progress lies in hidden folders of the voices directory, which are no voices. Knows nothing of sound.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from commands import CommandFailed
from tts_engine import LoadError, manifests, voice_library


@dataclass(frozen=True)
class VoiceDirectory:
    """The directory a server reads its voices from."""

    path: Path

    @property
    def library(self) -> voice_library.VoiceLibrary:
        """Its voices as a server reads them. Raises CommandFailed when it does not exist."""
        try:
            return voice_library.VoiceLibrary(self.path)
        except LoadError as error:
            raise CommandFailed(str(error)) from error

    def require_free(self, name: str) -> None:
        """Raises CommandFailed unless a voice called `name` could be added."""
        if not manifests.VOICE_ID.fullmatch(name):
            raise CommandFailed(f"{name[:80]!r} is no voice id: it must match {manifests.VOICE_ID.pattern}")
        if name in self.library.names() or os.path.lexists(self.path / name):
            raise CommandFailed(f"{self.path} already holds {name!r}; remove it first, or choose another id")

    def add(
        self, name: str, manifest: Mapping[str, str], write_recording: Callable[[Path], None]
    ) -> voice_library.VoiceFolder:
        """Make a voice of a manifest and what `write_recording` writes to the path it is given.

        It appears whole, and only after it has been read the way a server reads it. Raises CommandFailed.
        """
        self.require_free(name)
        try:
            with tempfile.TemporaryDirectory(prefix=".adding-", dir=self.path) as workspace:
                folder = Path(workspace) / name
                folder.mkdir()
                text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
                (folder / manifests.MANIFEST).write_text(text, encoding="utf-8")
                write_recording(folder / manifest["reference_audio"])
                voice = voice_library.VoiceLibrary(Path(workspace)).check()[name]
                # Renaming replaces nothing but an empty folder, should one have appeared meanwhile.
                folder.rename(self.path / name)
        except (LoadError, OSError) as error:
            raise CommandFailed(f"voice {name!r} was not added: {error}") from error
        return voice

    def files_of(self, name: str) -> list[Path]:
        """The files of the voice `name`. Raises CommandFailed unless it is a voice in here, and nothing besides."""
        if name not in self.library.names() or not manifests.VOICE_ID.fullmatch(name):
            raise CommandFailed(f"{self.path} has no voice {name[:80]!r}")
        folder = self.path / name
        if not (folder / manifests.MANIFEST).is_file():
            raise CommandFailed(f"{folder} has no {manifests.MANIFEST}, so it is no voice; it is left alone")
        files = sorted(folder.iterdir())
        for file in files:
            if file.is_dir() and not file.is_symlink():
                raise CommandFailed(f"{folder} holds a folder, {file.name}, as no voice does; it is left alone")
        return files

    def remove(self, name: str) -> None:
        """Delete the voice `name`. Raises CommandFailed when it is none, or cannot be deleted."""
        self.files_of(name)
        try:
            workspace = Path(tempfile.mkdtemp(prefix=".removing-", dir=self.path))
            try:
                (self.path / name).rename(workspace / name)
            finally:
                shutil.rmtree(workspace)
        except OSError as error:
            raise CommandFailed(f"voice {name!r} was not removed: {error}") from error
