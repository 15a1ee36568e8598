"""The frame step as CUDA graphs, one for each size of batch, all recorded before the first utterance.

A batch between two sizes takes the larger; what is made of the rows too many goes where nobody reads. Knows no
network.
"""

from __future__ import annotations

import gc
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .landing import SHEET

log = logging.getLogger(__name__)

_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
# A first call may allocate workspaces and compile kernels, which a recording must not; a second finds all in place.
_CALLS_BEFORE_RECORDING = 2


def graph_sizes(slots: int) -> tuple[int, ...]:
    """The batch sizes to record for `slots` slots: the usual ones up to it, and itself."""
    return (*(size for size in _SIZES if size < slots), slots)


class FrameGraphs:
    """Recordings of `step`, which must depend on nothing but the batch size and static tensors."""

    def __init__(self, step: Callable[[int], Tensor], slots: int, device: torch.device) -> None:
        """Record on the thread's current stream. step: rows B to their sheet (B, SHEET)."""
        self._step, self._device = step, device
        self._sizes = graph_sizes(slots)
        self._sheet = torch.zeros(slots, SHEET, dtype=torch.int16, device=device)
        self._pool = torch.cuda.graph_pool_handle()
        began, before = time.monotonic(), torch.cuda.memory_reserved(device)
        with _garbage_left():
            # The largest first: its memory then serves all others.
            self._graphs = {rows: self._record(rows) for rows in reversed(self._sizes)}
        grown = torch.cuda.memory_reserved(device) - before
        log.info(
            "recorded the frame step for batches of %s in %.1f s; they take %.0f MiB",
            ", ".join(map(str, self._sizes)),
            time.monotonic() - began,
            grown / 2**20,
        )

    def size_for(self, rows: int) -> int:
        """The batch size that a step of `rows` rows is run with."""
        return self._sizes[bisect_left(self._sizes, rows)]

    def replay(self, size: int) -> Tensor:
        """Launch a recorded step; its sheet (size, SHEET) stays until the next one is launched."""
        self._graphs[size].replay()
        return self._sheet[:size]

    def _record(self, rows: int) -> torch.cuda.CUDAGraph:
        for _ in range(_CALLS_BEFORE_RECORDING):
            self._write(rows)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile; what they do is no part of the recording.
        stream = torch.cuda.current_stream(self._device)
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            self._write(rows)
        # A first replay brings the graph to the device, and shows what of it fails there.
        graph.replay()
        return graph

    def _write(self, rows: int) -> None:
        self._sheet[:rows].copy_(self._step(rows))


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Look for garbage now, and not again before the block ends.

    What a search for it frees while a recording is made, say the graphs of an engine that is gone, would call the
    driver in the middle of that recording.
    """
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
