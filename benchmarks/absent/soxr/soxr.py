"""In soxr's place where it cannot be installed: recordings at 24 kHz need no resampling, others are refused."""

from typing import NoReturn


def resample(*_: object, **__: object) -> NoReturn:
    """Raises ImportError."""
    raise ImportError("soxr is not installed: a recording must come at 24 kHz")
