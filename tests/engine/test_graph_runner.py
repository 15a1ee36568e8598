"""The runner as a GPU runs it, over a double of CUDA: recordings instead of steps, results through the ring.

What only a card can show stands in test_gpu.py.
"""

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.conftest import Demo
from tests.engine.cuda_double import CudaDouble, Event, install
from tests.engine.fakes import Listener
from tts_engine import Engine, EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.landing import SHEET, Berth, Flight, LandingRing
from tts_engine.prompt import Prompt
from tts_engine.runner import Frame, Runner
from tts_engine.sampling_values import Sampling

CPU = torch.device("cpu")
CONFIG = EngineConfig(slots=5, max_text_tokens=40, segment_tokens=20, max_instruct_tokens=8, max_frames=30)
SAMPLING = Sampling(0.9, 50, 1.0, 1.05, 0.9, 50, 1.0, seed=0)


@dataclass(frozen=True)
class Pair:
    """A runner that replays recordings, and one that computes each step."""

    graphed: Runner
    plain: Runner
    cuda: CudaDouble
    files: Checkpoint

    def enter(self, slot: int, seed: int) -> None:
        """A prompt of 10 + seed positions, in both."""
        ids = tuple(range(5, 15 + seed))
        prompt = Prompt(ids, (self.files.model.ids.codec_pad,) * len(ids), 8, (7, 8, 9), True)
        for runner in (self.graphed, self.plain):
            runner.enter(slot, runner.prepare(prompt, None), Sampling(**{**vars(SAMPLING), "seed": seed}))


@pytest.fixture(scope="module")
def networks(demo: Demo) -> tuple[Checkpoint, Networks]:
    files = Checkpoint.read(demo())
    return files, load_networks(files, CPU, torch.float64)


@pytest.fixture
def pair(networks: tuple[Checkpoint, Networks], monkeypatch: pytest.MonkeyPatch) -> Pair:
    files, loaded = networks
    graphed, plain = (Runner(loaded, files.model, CONFIG, CPU, torch.float64) for _ in range(2))
    cuda = install(monkeypatch)
    graphed._record(CONFIG.slots, CPU)
    return Pair(graphed, plain, cuda, files)


def same(one: Frame, other: Frame, rows: list[int]) -> bool:
    alike = np.array_equal(one.codes[rows], other.codes[rows]) and np.array_equal(one.ended[rows], other.ended[rows])
    return alike and np.allclose(one.pcm[rows], other.pcm[rows], rtol=0, atol=1)


def test_every_size_is_recorded_once_the_largest_first_and_in_one_pool(pair: Pair) -> None:
    assert pair.graphed.ahead == 1
    assert pair.plain.ahead == 0
    assert len(pair.cuda.graphs) == 4  # for 1, 2, 4 and 5 rows
    sizes = [len(graph.recording.operations) > 1_000 for graph in pair.cuda.graphs]
    assert all(sizes)
    assert len(pair.cuda.pools) == 1


def test_before_anybody_listens_each_recording_has_run_once_and_nothing_was_freed_into_one(pair: Pair) -> None:
    assert [graph.replays for graph in pair.cuda.graphs] == [1] * 4
    assert not pair.cuda.garbage_sought
    assert gc.isenabled()


def test_a_runner_that_nobody_needs_is_gone_at_once(
    networks: tuple[Checkpoint, Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all its memory, which on a card is most of the card's."""
    files, loaded = networks
    runner = Runner(loaded, files.model, CONFIG, CPU, torch.float64)
    cuda = install(monkeypatch)
    runner._record(CONFIG.slots, CPU)
    cuda.graphs.clear()
    keys = weakref.ref(runner.state.cache.keys)
    gc.disable()
    try:
        del runner
        assert keys() is None
    finally:
        gc.enable()


def test_recorded_steps_make_the_frames_of_steps_whoever_runs_and_is_held(pair: Pair) -> None:
    at = [0] * CONFIG.slots
    for rows, held in ((1, set()), (2, set()), (3, {1}), (3, set()), (5, {0, 3}), (5, set()), (2, {0}), (2, set())):
        for slot in range(rows):
            if at[slot] == 0:
                pair.enter(slot, seed=slot)
                at[slot] = 10 + slot
        longest = max(at[:rows])
        frames = [runner.launch(rows, longest, held).land() for runner in (pair.graphed, pair.plain)]
        assert frames[0].codes.shape == (rows, 16)
        assert same(*frames, [row for row in range(rows) if row not in held])
        at = [length + (slot < rows and slot not in held) for slot, length in enumerate(at)]


def test_a_step_launched_before_the_last_has_landed_gives_the_same_frames(pair: Pair) -> None:
    pair.enter(0, 1)
    pair.enter(1, 2)
    expected = [pair.plain.launch(2, 12 + number, ()).land() for number in range(6)]
    flights = [pair.graphed.launch(2, 12, ())]
    landed = []
    for number in range(1, 6):
        flights.append(pair.graphed.launch(2, 12 + number, ()))
        landed.append(flights.pop(0).land())
    landed.append(flights.pop().land())
    assert all(same(one, other, [0, 1]) for one, other in zip(landed, expected, strict=True))


def test_a_row_moved_while_a_step_is_under_way_goes_on_as_if_it_had_not_moved(pair: Pair) -> None:
    """Row 1 moves to row 0 when the host knows one frame less of it than the device has made."""
    pair.enter(0, 1)
    pair.enter(1, 2)
    expected = [pair.plain.launch(2, 12 + number, ()).land() for number in range(5)]
    first = pair.graphed.launch(2, 12, ())
    second = pair.graphed.launch(2, 13, ())
    made = [first.land()]
    pair.graphed.move(1, 0, 12 + 1, 3)  # row 0 ended in the first step
    third = pair.graphed.launch(1, 14, ())
    made.append(second.land())
    frames = [third.land(), *(pair.graphed.launch(1, 15 + number, ()).land() for number in range(2))]
    assert all(same(one, other, [1]) for one, other in zip(made, expected, strict=False))
    for frame, other in zip(frames, expected[2:], strict=True):
        assert np.array_equal(frame.codes[0], other.codes[1])


def test_an_utterance_entered_while_a_step_is_under_way_is_not_touched_by_it(pair: Pair) -> None:
    pair.enter(0, 1)
    flight = pair.graphed.launch(1, 11, ())
    pair.enter(1, 3)
    flight.land()
    pair.plain.launch(1, 11, ()).land()
    frames = [runner.launch(2, 13, ()).land() for runner in (pair.graphed, pair.plain)]
    assert same(*frames, [0, 1])


def test_a_landed_frame_is_not_overwritten_by_later_steps(pair: Pair) -> None:
    pair.enter(0, 1)
    frame = pair.graphed.launch(1, 11, ()).land()
    kept = Frame(frame.codes.copy(), frame.pcm.copy(), frame.ended.copy())
    for number in range(8):
        pair.graphed.launch(1, 12 + number, ()).land()
    assert same(frame, kept, [0])


def test_a_flight_that_lands_after_its_berth_was_given_away_is_an_error(pair: Pair) -> None:
    pair.enter(0, 1)
    late = pair.graphed.launch(1, 11, ())
    for number in range(3):
        pair.graphed.launch(1, 12 + number, ())
    with pytest.raises(RuntimeError, match="step 0 was not landed before step 3 took its place"):
        late.land()


def test_a_berth_is_used_again_only_when_its_last_results_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    ring = LandingRing(rows=2, depth=2, device=CPU)
    berths: list[Berth] = []
    for number in range(4):
        berth = ring.take()
        berths.append(berth)
        assert isinstance(berth.arrived, Event)
        assert berth.arrived.waits == number // 2 + 1
        ring.send(berth, torch.full((2, SHEET), number, dtype=torch.int16)).land()
        berth.arrived.waits -= 1
    assert berths[0] is berths[2]
    assert berths[0] is not berths[1]


def test_an_engine_that_runs_ahead_over_recordings_says_what_one_that_waits_says(
    networks: tuple[Checkpoint, Networks],
    engine_with: Callable[[Runner, EngineConfig], Engine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nine utterances in five slots, some of two segments, some that end at once: rows come, go and move."""
    files, loaded = networks
    graphed, plain = (Runner(loaded, files.model, CONFIG, CPU, torch.float64) for _ in range(2))
    install(monkeypatch)
    graphed._record(CONFIG.slots, CPU)
    speaks = [
        Speak(text="Hello there, you. " * (1 + seed % 2), seed=seed, max_frames=3 + 5 * (seed % 4), voice="ryan")
        for seed in range(9)
    ]
    said = []
    for runner in (graphed, plain):
        engine, listeners = engine_with(runner, CONFIG), [Listener() for _ in speaks]
        for speak, listener in zip(speaks, listeners, strict=True):
            engine.submit(speak, listener)
        assert [listener.outcome.error for listener in listeners] == [None] * len(speaks)
        said.append([listener.codes for listener in listeners])
    assert sum(map(len, said[0])) > 50
    assert all(np.array_equal(one, other) for one, other in zip(*said, strict=True))


def test_a_sheet_holds_samples_codes_and_ends() -> None:
    sheet = torch.zeros(2, SHEET, dtype=torch.int16)
    sheet[1, :1_920], sheet[1, 1_920:-1], sheet[1, -1] = -7, torch.arange(16, dtype=torch.int16), 1
    frame = Flight.of(sheet).land()
    assert frame.pcm[1].tolist() == [-7] * 1_920
    assert frame.codes[1].tolist() == list(range(16))
    assert frame.ended.tolist() == [False, True]
    sheet.zero_()
    assert frame.ended.tolist() == [False, True]
