"""A stand-in for what the engine uses of torch.cuda, so that the GPU's path of the runner runs on a CPU.

Graphs are recordings (recording.py): what they were given when they were recorded is what they use when replayed.
There is one order of work, that of the calls, so it shows mistakes of the host, not of streams.
"""

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.recording import Recording
from tts_engine import landing


class Stream:
    """Work is done when it is asked for."""

    def __init__(self, device: torch.device) -> None:
        self.awaited: list[Event] = []

    def wait_event(self, event: "Event") -> None:
        assert event.recorded, "nothing was recorded that could be waited for"
        self.awaited.append(event)


class Event:
    """Counts who waits for it."""

    def __init__(self) -> None:
        self.recorded = self.waits = 0

    def record(self) -> None:
        self.recorded += 1

    def synchronize(self) -> None:
        self.waits += 1


class Graph:
    """A recording, and how often it was replayed."""

    def __init__(self) -> None:
        self.recording = Recording()
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.recording.replay()


class CudaDouble:
    """What was recorded, in which pools, and whether garbage was searched for meanwhile."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.pools: set[object] = set()
        self.garbage_sought = False

    @contextmanager
    def graph(self, graph: Graph, *, pool: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        self.graphs.append(graph)
        self.pools.add(pool)
        self.garbage_sought |= gc.isenabled()
        with graph.recording:
            yield


def install(monkeypatch: pytest.MonkeyPatch) -> CudaDouble:
    """Put the double in torch.cuda's place until the test ends."""
    double = CudaDouble()

    def pinned(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    replaced: dict[str, Any] = {
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": double.graph,
        "graph_pool_handle": object,
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda device: "current",
        "synchronize": lambda device: None,
        "memory_reserved": lambda device: 0,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, _called_as(getattr(torch.cuda, name), value))
    monkeypatch.setattr(landing, "pinned", pinned)
    return double


def _called_as(real: Callable[..., Any], stand_in: Callable[..., Any]) -> Callable[..., Any]:
    """The stand-in, for calls that the real one would take too. Raises TypeError for others."""
    signature = inspect.signature(real)

    def call(*args: Any, **options: Any) -> Any:
        signature.bind(*args, **options)
        return stand_in(*args, **options)

    return call
