"""Kernels in the triton language, for what torch's own operations would carry through memory several times.

Whether they are used is chosen once for the process, before any network runs. The language is imported only then: a
CPU needs neither it nor a compiler. Each kernel stands for a few operations of the networks and rounds where those
round. Knows no network.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_chosen: ModuleType | None = None


def choose(*, on: bool) -> None:
    """Use the kernels from now on, or torch's operations. Raises ImportError when triton cannot be imported."""
    global _chosen
    _chosen = importlib.import_module(".launches", __name__) if on else None


def chosen() -> ModuleType | None:
    """The functions of launches.py when the kernels are in use, else nothing."""
    return _chosen
