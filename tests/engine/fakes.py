"""Stand-ins that go in by constructor: a sink that remembers, runners with a script, and what delivery talks to.

They decide nothing themselves; a test tells them when to act and reads what they saw.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tests.engine.reference import empty_cache
from tts_engine import CODEBOOKS, SAMPLES_PER_FRAME, Outcome, SpokenSegment
from tts_engine.model_config import TransformerConfig
from tts_engine.prompt import Prompt
from tts_engine.runner import Flight, Newcomer, Parked, Prefilled, Runner
from tts_engine.sampling_values import Sampling
from tts_engine.voice_encoder import EncodedVoice

PATIENCE_S = 60.0
LOUD = 1_000


class Listener:
    """A sink that keeps what it hears; `on_frame(count)` and `on_end()` are called on the engine thread."""

    def __init__(
        self, on_frame: Callable[[int], None] = lambda count: None, on_end: Callable[[], None] = lambda: None
    ) -> None:
        self._on_frame, self._on_end = on_frame, on_end
        self.frames: list[npt.NDArray[np.int64]] = []
        self.pcm: list[npt.NDArray[np.int16]] = []
        self.segments: list[SpokenSegment] = []
        self.outcomes: list[Outcome] = []
        self._ended = threading.Event()

    def segment(self, segment: SpokenSegment) -> None:
        assert segment.index == len(self.segments)
        assert segment.sample_offset == sum(map(len, self.pcm)), "a segment is told right before its sound"
        self.segments.append(segment)

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
    text: int
    complete: bool
    frames: int = 0

    @property
    def length(self) -> int:
        return self.prompt_length + self.frames


class ScriptedRunner(Runner):
    """Makes frames whose codes say (seed, number of the frame); a generation ends after `seed` frames.

    It holds the engine to what a runner is promised: lengths, text laid out without a gap, no frame without its text.
    Stepwise: each frame waits for a `step`, until `run_freely`. The first `silent` frames of a generation are silent.
    """

    def __init__(
        self,
        *,
        stepwise: bool = False,
        silent: int = 0,
        fail_at_frame: int | None = None,
        fail_to_move: bool = False,
        parked_bytes: int = 1,
    ) -> None:
        self.rows: dict[int, _Row] = {}
        self.made = 0
        self.prompts: list[Prompt] = []
        self.moves: list[tuple[int, int]] = []
        self.parkings = 0
        self._parked_bytes = parked_bytes
        self.held: list[tuple[int, ...]] = []
        self._asked = threading.Semaphore(0)
        self._permits = threading.Semaphore(0)
        self._free = not stepwise
        self._silent = silent
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

    def prepare(self, prompt: Prompt, voice: EncodedVoice | None) -> Prefilled:
        self.prompts.append(prompt)
        trailing = len(prompt.trailing_ids) + (1 if prompt.complete else 0)
        return Prefilled(
            cache=empty_cache(_NO_NETWORK, 1, 1, torch.float32),
            length=len(prompt.text_ids),
            hidden=torch.zeros(1),
            trailing=torch.zeros(trailing, 1),
            text=len(prompt.trailing_ids),
            voice=voice,
        )

    def prepare_many(self, newcomers: Sequence[Newcomer]) -> list[Prefilled]:
        return [self.prepare(*newcomer) for newcomer in newcomers]

    def enter(self, slot: int, prefilled: Prefilled, sampling: Sampling) -> None:
        complete = len(prefilled.trailing) > prefilled.text
        self.rows[slot] = _Row(sampling.seed, prefilled.length, prefilled.text, complete)

    def extend(self, slot: int, count: int, ids: Sequence[int], *, complete: bool) -> None:
        row = self.rows[slot]
        assert not row.complete, "text after the end of the text"
        assert count == row.text, "text must be laid out without a gap"
        row.text += len(ids)
        row.complete = complete

    def launch(self, rows: int, longest: int, held: Collection[int]) -> Flight:
        self._asked.release()
        if not self._free:
            assert self._permits.acquire(timeout=PATIENCE_S), "no permit came"
        self.made += 1
        if self.made == self._fail_at_frame:
            raise RuntimeError("the device is gone")
        running = [self.rows[slot] for slot in range(rows)]
        assert longest == max(row.length for row in running)
        assert set(held) < set(range(rows)), "somebody must speak"
        self.held.append(tuple(sorted(held)))
        codes = np.zeros((rows, CODEBOOKS), dtype=np.int64)
        codes[:, 0], codes[:, 1] = [row.seed for row in running], [row.frames for row in running]
        ended = np.array([row.frames >= row.seed for row in running])
        pcm = np.full((rows, SAMPLES_PER_FRAME), LOUD, dtype=np.int16)
        pcm[[row.frames < self._silent for row in running]] = 0
        for slot, row in enumerate(running):
            if slot not in held:
                assert row.complete or row.frames < row.text, "a frame needs its text"
                row.frames += 1
        return Flight(*map(torch.from_numpy, (codes, pcm, ended)))

    def move(self, source: int, target: int, length: int, trailing: int) -> None:
        if self._fail_to_move:
            raise RuntimeError("the copy failed")
        row = self.rows.pop(source)
        assert length == row.length, "a move must copy all positions in use"
        assert trailing == row.text, "a move must copy all text that is laid out"
        self.rows[target] = row
        self.moves.append((source, target))

    def park(self, slot: int, length: int, trailing: int) -> Parked:
        row = self.rows.pop(slot)
        assert length == row.length, "all positions in use must be set aside"
        assert trailing == row.text, "all text that is laid out must be set aside"
        self.parkings += 1
        return _ParkedRow([torch.zeros(self._parked_bytes, dtype=torch.uint8)], row)

    def unpark(self, slot: int, parked: Parked, length: int, trailing: int) -> None:
        assert isinstance(parked, _ParkedRow)
        assert (length, trailing) == (parked.row.length, parked.row.text), "it goes on where it was"
        self.rows[slot] = parked.row


@dataclass(frozen=True)
class _ParkedRow(Parked):
    row: _Row


_NO_NETWORK = TransformerConfig(
    hidden=1, intermediate=1, layers=1, heads=1, kv_heads=1, head_dim=1, eps=1.0, rope_theta=1.0
)


class FakeStream:
    """A response stream that notes every call, above all those after its end; `on_send` is called after each send."""

    def __init__(self, on_send: Callable[[], None] = lambda: None) -> None:
        self._on_send = on_send
        self.log: list[str] = []
        self.chunks: list[npt.NDArray[np.int16]] = []
        self.segments: list[SpokenSegment | None] = []
        self.accepted_after: list[int] = []
        self.outcome: Outcome | None = None
        self.gone = threading.Event()
        self.polled = threading.Event()
        self.finished = threading.Event()

    def accept(self) -> None:
        self.accepted_after.append(len(self.chunks))

    def send(self, pcm: npt.NDArray[np.int16], segment: SpokenSegment | None) -> None:
        self._note("send")
        self.chunks.append(pcm)
        self.segments.append(segment)
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


class BrokenStream(FakeStream):
    """A stream whose transport raises in one of its calls: `send`, `finish` or `poll`."""

    def __init__(self, broken_call: str) -> None:
        super().__init__()
        self._broken_call = broken_call
        self.broke = threading.Event()

    def _note(self, call: str) -> None:
        super()._note(call)
        if call == self._broken_call:
            self.broke.set()
            raise ConnectionError("the stream is closed")


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
