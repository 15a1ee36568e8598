"""A stranger's recording is decoded in a process of its own, whose end says whose fault it was."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile

from frontend import recording_check
from frontend.recording_check import UnusableRecording, check_recording, prepared


def test_silence_around_the_speech_is_left_out(tmp_path: Path) -> None:
    speech = np.sin(np.arange(24_000 * 2) * 0.1) * 0.5
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(24_000), speech, np.zeros(24_000)]), 24_000)
    assert len(prepared(tmp_path / "a.wav")) == pytest.approx(24_000 * 2.2, abs=500)


async def test_a_decoder_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe", stat.S_IRUSR | stat.S_IWUSR)
    monkeypatch.setattr(recording_check, "WALL_SECONDS", 0.5)
    with pytest.raises(UnusableRecording, match=r"not decoded within 0\.5 s"):
        await check_recording(tmp_path / "pipe", tmp_path / "out.wav")


async def test_a_full_disk_is_not_called_a_fault_of_the_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "fine.wav", np.sin(np.arange(24_000 * 4) * 0.1) * 0.5, 24_000)
    with pytest.raises(OSError, match="No space left on device"):
        await check_recording(tmp_path / "fine.wav", Path("/dev/full"))
