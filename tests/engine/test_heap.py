"""Memory that was freed goes back to the machine when the engine has nothing to do, and only then."""

import re
import threading
from pathlib import Path

import pytest

from tests.engine.conftest import LoadEngine
from tests.engine.fakes import PATIENCE_S, Listener
from tts_engine import EngineConfig, Speak, heap

BLOCK = 100_000
"""Small enough that the C library keeps it in a heap."""


def resident_mb() -> float:
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1000


def test_what_was_freed_between_what_is_still_used_is_given_back() -> None:
    blocks = [bytearray(BLOCK) for _ in range(3000)]
    full = resident_mb()
    del blocks[1:-1]  # the last one lies on top, so the heap cannot shrink by itself
    heap.give_back()
    assert resident_mb() < full - 200


def test_an_engine_gives_memory_back_once_whenever_it_has_been_idle_and_goes_on(
    load_engine: LoadEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, again = [], threading.Event()
    monkeypatch.setattr(heap, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(heap, "give_back", lambda: (given.append(threading.current_thread().name), again.set()))
    engine = load_engine(EngineConfig(slots=1))
    for rounds in (1, 2):
        again.clear()
        listener = Listener()
        engine.submit(Speak(text="Hello there", max_frames=3), listener)
        assert listener.outcome.error is None
        assert again.wait(PATIENCE_S)
        assert len(given) >= rounds
    assert len(given) <= 3, "once for each idle time, the one before the first utterance included"
    assert set(given) == {"tts-engine"}
