"""How long a piece of work takes on a device: events on a GPU, the clock on a CPU, after a warm-up.

On a GPU the work is captured as a CUDA graph first, since otherwise a part of a step would be timed by how fast
the host launches it. Knows nothing of what it times.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Run = Callable[[], object]
_CAPTURE_WARM_UPS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition."""

    seconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median in milliseconds."""
        return 1e3 * statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The shortest, in seconds."""
        return min(self.seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Run, device: torch.device, *, repeats: int, warm_up: int = 1, graph: bool = True) -> Timing:
    """Time `run`, `repeats` times after `warm_up` times; on a GPU as a graph of it unless `graph` is false."""
    if device.type == "cuda":
        return _timed_by_events(_captured(run) if graph else run, repeats, warm_up)
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return Timing(tuple(seconds))


def _timed_by_events(run: Run, repeats: int, warm_up: int) -> Timing:
    for _ in range(warm_up):
        run()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    marks[-1].synchronize()
    return Timing(tuple(start.elapsed_time(end) / 1e3 for start, end in itertools.pairwise(marks)))


def _captured(run: Run) -> Run:
    """The work as a graph to replay; it must not depend on values of the host."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_CAPTURE_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
