"""Memory that was freed and that the C library keeps, given back to the machine. Knows nothing of what it was for."""

from __future__ import annotations

import ctypes

IDLE_SECONDS = 5.0
"""Only who has had nothing to do for so long gives back, since what is needed again must be asked for anew."""


def give_back() -> None:
    """Return free memory in the middle of heaps too, some milliseconds' work; nothing where there is no glibc.

    A CPU's tensors are of all sizes and live for all lengths of time, so what is freed lies between what is not, and
    heaps grow for hours though no more is in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
