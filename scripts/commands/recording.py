"""A WAV that appears when there is sound and is whole: an older one of its name stays until then.

What comes goes into a file beside it, which takes the name at the end. Where that is never reached the file beside it
stays, and can be played. Knows nothing of where the sound comes from.
"""

import os
import wave
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from commands import CommandFailed

SAMPLE_RATE = 24_000
BYTES_PER_SAMPLE = 2
OUT_HELP = (
    "replaced when the speech has ended or was cancelled; what came of one that failed is left in NAME.partial.wav"
)


class Recording:
    """Int16 mono of 24 kHz on its way into a file; a context, whose end decides what becomes of it."""

    def __init__(self, path: Path) -> None:
        """Raises CommandFailed where no file could be written, before any speech is made for it."""
        self._path = path
        # A link goes on pointing at the file that is replaced; a device or a pipe cannot be replaced.
        self._target = path.resolve()
        in_place = self._target.exists() and not self._target.is_file()
        self.partial = self._target if in_place else self._target.with_name(f"{path.stem}.partial{path.suffix}")
        self._file: wave.Wave_write | None = None
        self._closing = ExitStack()
        if self._target.is_dir():
            raise CommandFailed(f"cannot write {path}: it is a folder")
        if not self._target.parent.is_dir():
            raise CommandFailed(f"cannot write {path}: No such file or directory")
        if not os.access(self._target if in_place else self._target.parent, os.W_OK):
            raise CommandFailed(f"cannot write {path}: Permission denied")

    def write(self, pcm: bytes) -> None:
        """More sound; the file has a right header after each piece. Raises CommandFailed."""
        try:
            if self._file is None:
                self._file = self._opened()
            self._file.writeframes(pcm)
        except OSError as error:
            raise CommandFailed(f"cannot write {self._path}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()
        if self._file is None or self.partial == self._target:
            return
        if error is None:
            self.partial.replace(self._target)
        else:
            error.add_note(f"what came is in {self.partial}")

    def _opened(self) -> wave.Wave_write:
        # Unbuffered, so that what has arrived is in the file even if this process is killed.
        raw = self._closing.enter_context(self.partial.open("wb", buffering=0))
        file = self._closing.enter_context(wave.open(raw, "wb"))  # noqa: SIM115  (closed by the context it is entered into)
        file.setnchannels(1)
        file.setsampwidth(BYTES_PER_SAMPLE)
        file.setframerate(SAMPLE_RATE)
        return file
