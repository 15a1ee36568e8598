"""A recorded frame step, replayed, is the frame step: what a CUDA graph needs, shown without a GPU.

On the runner itself: one step is recorded in one state, then replayed in others, and compared bit by bit with a runner
that computes each step anew. The recording's rules stand in recording.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.conftest import Demo
from tests.engine.recording import Recording, record
from tts_engine import EngineConfig
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.frame_graphs import graph_sizes
from tts_engine.landing import Flight
from tts_engine.memory import positions_per_slot
from tts_engine.runner import Prefilled, Runner
from tts_engine.sampling_values import Sampling

CPU = torch.device("cpu")
CONFIG = EngineConfig(slots=4, max_text_tokens=40, segment_tokens=20, max_instruct_tokens=8, max_frames=40)
LENGTH = positions_per_slot(CONFIG)
SIZE = 3


def sampling(seed: int) -> Sampling:
    """Every row by other rules."""
    return Sampling(
        temperature=(0.9, 0.0, 1.2)[seed % 3],
        top_k=(50, 0, 7)[seed % 3],
        top_p=(1.0, 0.8, 0.9)[seed % 3],
        repetition_penalty=1.0 + 0.1 * (seed % 3),
        predictor_temperature=(0.9, 0.0, 0.5)[seed % 3],
        predictor_top_k=(50, 0, 5)[seed % 3],
        predictor_top_p=(1.0, 1.0, 0.7)[seed % 3],
        seed=2**63 + seed,
    )


@dataclass(frozen=True)
class Stage:
    """Checkpoint and networks, and prompts of any length for them."""

    files: Checkpoint
    networks: Networks

    def runner(self) -> Runner:
        return Runner(self.networks, self.files.model, CONFIG, CPU, torch.float32)

    def prompt(self, runner: Runner, length: int) -> Prefilled:
        """A prompt of `length` positions, as if it had been read; its numbers depend on its length alone."""
        draw = torch.Generator().manual_seed(length)
        config = self.files.model.talker
        shape = (config.layers, config.kv_heads, length, config.head_dim)
        cache = runner.state.cache.part(0, 0)
        cache.keys, cache.values = (torch.randn(shape, generator=draw)[:, None] for _ in range(2))
        hidden = torch.randn(config.hidden, generator=draw)
        ids = tuple(range(5, 5 + length % 7))
        return Prefilled(cache, length, hidden, (*ids, self.files.model.ids.tts_pad), len(ids), None)


@pytest.fixture(scope="module", params=["0b6", "1b7"])
def stage(request: pytest.FixtureRequest, demo: Demo) -> Stage:
    files = Checkpoint.read(demo(size=request.param))
    return Stage(files, load_networks(files, CPU, torch.float32))


def state_of(runner: Runner) -> list[Tensor]:
    """Everything that lasts from step to step, but for the rows that nobody reads."""
    state, slots = runner.state, CONFIG.slots
    whole = [state.cache.keys, state.cache.values, state.codec.keys, state.codec.values, state.text, state.count]
    rows = [state.hidden, state.positions, state.frames, state.sampling.seen, state.codec.frames, *state.codec.tails]
    return [tensor.clone() for tensor in (*whole, *(row[:slots] for row in rows))]


def aim(runner: Runner, rows: int, held: set[int]) -> None:
    nobody = CONFIG.slots
    runner.state.targets[:SIZE] = torch.tensor([nobody if r in held or r >= rows else r for r in range(SIZE)])


def recorded(runner: Runner) -> tuple[Recording, Tensor]:
    """One step of SIZE rows, recorded when no slot has ever been entered, as at start-up."""
    return record(lambda: runner.step(SIZE, LENGTH))


Change = Callable[[Runner, Stage], None]


def newcomer(slot: int, length: int, seed: int) -> Change:
    return lambda runner, stage: runner.enter(slot, stage.prompt(runner, length), sampling(seed))


PLAY: list[tuple[int, set[int], Change | None]] = [
    (1, set(), newcomer(0, 9, 1)),
    (1, set(), None),
    (2, set(), newcomer(1, 30, 2)),
    (3, {1}, newcomer(2, 11, 3)),
    (3, {0, 2}, None),
    (3, set(), lambda runner, _: runner.extend(1, 2, [9, 8, 7], complete=True)),
    (2, set(), lambda runner, _: runner.move(2, 0, 14, 4)),
    (3, set(), newcomer(2, 60, 4)),
    (3, {2}, newcomer(1, 3, 5)),
    (3, set(), None),
]


def test_a_replay_in_any_state_is_the_step_bit_for_bit(stage: Stage) -> None:
    repeated, fresh = stage.runner(), stage.runner()
    recording, sheet = recorded(repeated)
    recorded(fresh)
    for rows, held, change in PLAY:
        for runner in (repeated, fresh):
            if change is not None:
                change(runner, stage)
            aim(runner, rows, held)
        recording.replay()
        with torch.inference_mode():
            expected = fresh.step(SIZE, LENGTH)
        assert torch.equal(sheet[:rows], expected[:rows])
        for one, other in zip(state_of(repeated), state_of(fresh), strict=True):
            assert torch.equal(one, other)


def test_rows_beyond_those_that_run_change_nothing(stage: Stage) -> None:
    wide, narrow = stage.runner(), stage.runner()
    for runner in (wide, narrow):
        runner.enter(0, stage.prompt(runner, 12), sampling(1))
        runner.enter(1, stage.prompt(runner, 20), sampling(2))
        runner.enter(2, stage.prompt(runner, 20), sampling(3))
    before = state_of(wide)
    aim(wide, rows=1, held=set())
    with torch.inference_mode():
        sheet = wide.step(SIZE, LENGTH)
    frame, expected = Flight.of(sheet).land(), narrow.launch(1, 12, ()).land()
    assert (frame.codes[0] == expected.codes[0]).all()
    kept = {
        "hidden": (before[6], wide.state.hidden),
        "positions": (before[7], wide.state.positions),
        "frames": (before[8], wide.state.frames),
        "seen": (before[9], wide.state.sampling.seen),
    }
    for name, (old, new) in kept.items():
        assert torch.equal(old[1:], new[1 : CONFIG.slots]), name
    assert torch.equal(before[0][:, 1, :, :20], wide.state.cache.keys[:, 1, :, :20])


def test_a_step_neither_waits_for_the_device_nor_brings_it_numbers(stage: Stage) -> None:
    recording, _ = recorded(stage.runner())
    assert len(recording.operations) > 1_000
    assert recording.waits() == []


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda x: x + float(x.sum()), "item"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x + torch.tensor([1.0, 2.0]), "lift_fresh"),
        (lambda x: x.nonzero(), "nonzero"),
    ],
)
def test_what_waits_is_noticed(work: Callable[[Tensor], Tensor], name: str) -> None:
    assert name in record(lambda: work(torch.tensor([1.0, -2.0])))[0].waits()


def test_a_frozen_number_shows_as_a_difference() -> None:
    state = torch.tensor([1.0])
    recording, made = record(lambda: state * 2 + float(state))
    state.fill_(5.0)
    recording.replay()
    assert made.item() == 11.0, "the 5 is seen by the product, and the sum still has the 1"


def test_a_row_computed_after_its_end_stays_within_its_buffers(stage: Stage) -> None:
    """The longest prompt and generation, one step launched too many, and the row then left empty in a larger batch."""
    runner = stage.runner()
    runner.enter(0, stage.prompt(runner, CONFIG.max_prompt_length), sampling(1))
    runner.state.positions[0] += CONFIG.max_frames
    runner.state.frames[0] += CONFIG.max_frames
    for _ in range(2):
        runner.launch(1, LENGTH - 1, ()).land()
    assert int(runner.state.positions[0]) == CONFIG.max_length + 2 <= LENGTH


@pytest.mark.parametrize("slots", [1, 2, 3, 16, 17, 256])
def test_every_number_of_rows_has_a_batch_that_holds_it_and_is_hardly_larger(slots: int) -> None:
    sizes = graph_sizes(slots)
    assert sizes == tuple(sorted(set(sizes)))
    assert (sizes[0], sizes[-1]) == (1, slots)
    for rows in range(1, slots + 1):
        size = min(size for size in sizes if size >= rows)
        assert size <= max(2 * rows - 1, rows * 1.5 + 1)
