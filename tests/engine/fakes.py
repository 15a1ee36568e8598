"""Stand-ins that go in by constructor: a sink that remembers, runners with a script, and what delivery talks to.

They decide nothing themselves; a test tells them when to act and reads what they saw.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tts_engine import CODEBOOKS, SAMPLES_PER_FRAME, Outcome
from tts_engine.prompt import Prompt
from tts_engine.runner import Frame, Runner
from tts_engine.sampling import Sampling

PATIENCE_S = 20.0


class Listener:
    """A sink that keeps what it hears; `on_frame(count)` and `on_end()` are called on the engine thread."""

    def __init__(
        self, on_frame: Callable[[int], None] = lambda count: None, on_end: Callable[[], None] = lambda: None
    ) -> None:
        self._on_frame, self._on_end = on_frame, on_end
        self.frames: list[npt.NDArray[np.int64]] = []
        self.pcm: list[npt.NDArray[np.int16]] = []
        self.outcomes: list[Outcome] = []
        self._ended = threading.Event()

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        assert not self.outcomes, "sound after the end"
        self.pcm.append(pcm.copy())
        self.frames.append(codes.copy())
        self._on_frame(len(self.frames))

    def end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._on_end()
        self._ended.set()

    @property
    def codes(self) -> npt.NDArray[np.int64]:
        """All codes heard, (T, 16)."""
        return np.array(self.frames, dtype=np.int64).reshape(-1, CODEBOOKS)

    @property
    def outcome(self) -> Outcome:
        """How it ended; waits for that."""
        assert self._ended.wait(PATIENCE_S), "the utterance did not end"
        assert len(self.outcomes) == 1, "an utterance ends once"
        return self.outcomes[0]

    @property
    def timings(self) -> dict[str, Any]:
        """The timings of its outcome, in seconds."""
        timings = self.outcome.info["timings"]
        assert isinstance(timings, dict)
        return timings


@dataclass
class _Row:
    seed: int
    prompt_length: int
    frames: int = 0


class ScriptedRunner(Runner):
    """Makes frames whose codes say (seed, number of the frame); an utterance ends after `seed` frames.

    Stepwise: each frame waits for a `step`, until `run_freely`.
    """

    def __init__(self, *, stepwise: bool = False, fail_at_frame: int | None = None, fail_to_move: bool = False) -> None:
        self.rows: dict[int, _Row] = {}
        self.made = 0
        self.moves: list[tuple[int, int]] = []
        self._asked = threading.Semaphore(0)
        self._permits = threading.Semaphore(0)
        self._free = not stepwise
        self._fail_at_frame, self._fail_to_move = fail_at_frame, fail_to_move

    def wait_for_engine(self) -> None:
        """Return when the engine asks for a frame, having read its inbox and let in whom it could."""
        assert self._asked.acquire(timeout=PATIENCE_S), "the engine asked for no frame"

    def step(self) -> None:
        """Let a frame be made that was asked for, and wait until the next one is."""
        self._permits.release()
        self.wait_for_engine()

    def run_freely(self) -> None:
        """Never wait again."""
        self._free = True
        self._permits.release()

    def prefill(self, slot: int, prompt: Prompt, sampling: Sampling) -> None:
        self.rows[slot] = _Row(sampling.seed, len(prompt.text_ids))

    def frame(self, rows: int, longest: int) -> Frame:
        self._asked.release()
        if not self._free:
            assert self._permits.acquire(timeout=PATIENCE_S), "no permit came"
        self.made += 1
        if self.made == self._fail_at_frame:
            raise RuntimeError("the device is gone")
        running = [self.rows[slot] for slot in range(rows)]
        assert longest == max(row.prompt_length + row.frames for row in running)
        codes = np.zeros((rows, CODEBOOKS), dtype=np.int64)
        codes[:, 0], codes[:, 1] = [row.seed for row in running], [row.frames for row in running]
        ended = np.array([row.frames >= row.seed for row in running])
        for row in running:
            row.frames += 1
        return Frame(codes, np.zeros((rows, SAMPLES_PER_FRAME), dtype=np.int16), ended)

    def move(self, source: int, target: int, length: int) -> None:
        if self._fail_to_move:
            raise RuntimeError("the copy failed")
        row = self.rows.pop(source)
        assert length == row.prompt_length + row.frames, "a move must copy all positions in use"
        self.rows[target] = row
        self.moves.append((source, target))


class FakeStream:
    """A response stream that notes every call, above all those after its end; `on_send` is called after each send."""

    def __init__(self, on_send: Callable[[], None] = lambda: None) -> None:
        self._on_send = on_send
        self.log: list[str] = []
        self.chunks: list[npt.NDArray[np.int16]] = []
        self.outcome: Outcome | None = None
        self.gone = threading.Event()
        self.polled = threading.Event()
        self.finished = threading.Event()

    def send(self, pcm: npt.NDArray[np.int16]) -> None:
        self._note("send")
        self.chunks.append(pcm)
        self._on_send()

    def finish(self, pcm: npt.NDArray[np.int16], outcome: Outcome) -> None:
        self._note("finish")
        self.chunks.append(pcm)
        self.outcome = outcome
        self.finished.set()

    def is_cancelled(self) -> bool:
        self._note("poll")
        self.polled.set()
        return self.gone.is_set()

    @property
    def pcm(self) -> npt.NDArray[np.int16]:
        """Everything sent, joined."""
        return np.concatenate(self.chunks)

    def _note(self, call: str) -> None:
        # Kept rather than raised: an error here would end the thread under test, not the test.
        self.log.append(f"{call} after finish" if self.finished.is_set() else call)


class FakeObserver:
    """Counts what delivery tells; `on_refresh` may hold the delivery thread up."""

    def __init__(self, on_refresh: Callable[[], None] = lambda: None) -> None:
        self._on_refresh = on_refresh
        self.first_audio_seconds: list[float] = []
        self.refreshed = 0

    def first_audio(self, seconds: float) -> None:
        self.first_audio_seconds.append(seconds)

    def refresh(self) -> None:
        self.refreshed += 1
        self._on_refresh()
