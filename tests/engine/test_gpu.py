"""On a card: what test_frame_recording.py, test_graph_runner.py and test_kernels.py show without one, and what they
cannot.

Tiny random checkpoints, so that a run takes a minute or two. float64 where a law must not be broken by rounding: it has
no kernels; float32 and bfloat16 where kernels are tried.
"""

import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import Demo, Figure
from tests.engine.conftest import VOICES
from tests.engine.fakes import Listener
from tests.engine.sounds import hum
from tts_engine import Acceleration, Engine, EngineConfig, LoadError, Speak
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.frame_graphs import graph_sizes
from tts_engine.landing import Flight
from tts_engine.manifests import Reference
from tts_engine.prompt import Prompt
from tts_engine.runner import Frame, Newcomer, Runner
from tts_engine.sampling_values import Sampling
from tts_engine.voice_encoder import VoiceEncoder

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda", 0)
CONFIG = EngineConfig(slots=20, max_text_tokens=40, segment_tokens=20, max_instruct_tokens=8, max_frames=60)
SAMPLING = Sampling(0.9, 50, 1.0, 1.05, 0.9, 50, 1.0, seed=0)
# Each new shape is a kernel to compile, about a second.
_KERNEL_EXAMPLES = 18
CLOSE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 0.1}


@dataclass(frozen=True)
class Card:
    """A checkpoint on the card, in one precision."""

    files: Checkpoint
    networks: Networks
    dtype: torch.dtype

    def runner(self, slots: int = CONFIG.slots) -> Runner:
        return Runner(self.networks, self.files.model, replace(CONFIG, slots=slots), GPU, self.dtype)

    def newcomer(self, seed: int) -> Newcomer:
        """A prompt of 10 to 16 positions that goes on with three words."""
        ids = tuple(range(5, 15 + seed % 7))
        return Prompt(ids, (self.files.model.ids.codec_pad,) * len(ids), 8, (7, 8, 9), True), None

    def fill(self, runner: Runner, rows: int) -> list[int]:
        """Enter rows 0 … rows-1; returns how many positions each has."""
        for slot, read in enumerate(runner.prepare_many([self.newcomer(seed) for seed in range(rows)])):
            runner.enter(slot, read, replace(SAMPLING, seed=slot))
        return [10 + slot % 7 for slot in range(rows)]


@pytest.fixture(scope="module", params=["float64", "float32", "bfloat16"])
def card(request: pytest.FixtureRequest, demo: Demo) -> Iterator[Card]:
    dtype = getattr(torch, request.param)
    Acceleration(tf32="off").choose(GPU, dtype)
    files = Checkpoint.read(demo(size="1b7"))
    yield Card(files, load_networks(files, GPU, dtype), dtype)
    Acceleration(kernels="off").choose(torch.device("cpu"), torch.float32)


def eager(runner: Runner, size: int, rows: int, held: set[int]) -> Frame:
    """A step of `size` rows as the recording makes it, computed anew."""
    nobody = runner.state.slots.shape[0]
    targets = [row if row < rows and row not in held else nobody for row in range(size)]
    with torch.inference_mode(), runner._on_stream():
        runner.state.targets[:size] = torch.tensor(targets, device=GPU)
        sheet = runner.step(size, runner.state.cache.length)[:rows].cpu()
    return Flight.of(sheet).land()


def state_of(runner: Runner, rows: int) -> list[Tensor]:
    torch.cuda.synchronize(GPU)
    state = runner.state
    ring = [state.cache.keys[:, :rows], state.cache.values[:, :rows], state.codec.keys[:, :rows]]
    return [*ring, *(part[:rows] for part in (state.hidden, state.positions, state.frames, state.codec.arena))]


def kernels_against_operations(dtype: torch.dtype, bound: float, figure: Figure) -> None:
    from tests.engine.kernel_cases import worst_of  # here, for it brings triton, which other tests do without

    Acceleration(kernels="off", tf32="off").choose(GPU, dtype)
    with torch.device(GPU):
        worst = worst_of(dtype, examples=_KERNEL_EXAMPLES)
    figure(f"kernels == operations on the card, {dtype}", f"{max(worst.values()):.1e}")
    assert worst["uniforms"] == 0
    assert worst.pop("codes chosen", 0.0) <= 1, "a sum in another order may move a choice that was a near tie"
    assert worst["stored values"] == 0
    # A sine or a root may differ in its last bit, and then a rounding to bfloat16 by one step.
    assert max(worst.values()) <= bound, worst


# First, and apart from each other: they take longest, and where tests are shared out should not fall to one process.
def test_kernels_are_what_they_stand_for_in_float32(figure: Figure) -> None:
    kernels_against_operations(torch.float32, 1e-5, figure)


def test_slots_that_do_not_fit_the_card_are_refused_with_the_number_that_does(demo: Demo) -> None:
    with pytest.raises(LoadError, match=r"1000000 slots need .* the most that fit are \d+"):
        Engine.load(demo(), replace(CONFIG, slots=1_000_000), VOICES, device="cuda")


def test_kernels_are_what_they_stand_for_in_bfloat16(figure: Figure) -> None:
    kernels_against_operations(torch.bfloat16, 2**-6, figure)


def test_a_recorded_step_is_the_step_for_every_size_of_batch(card: Card, figure: Figure) -> None:
    graphed, plain = card.runner(), card.runner()
    worst = 0.0
    for size in graph_sizes(CONFIG.slots):
        rows = max(1, size - 1)
        lengths = card.fill(graphed, rows)
        card.fill(plain, rows)
        for number in range(4):
            held = {0} if number == 2 and rows > 1 else set()
            made = graphed.launch(rows, max(lengths) + number, held).land()
            expected = eager(plain, graphed._graphs.size_for(rows), rows, held)
            speaking = [row for row in range(rows) if row not in held]
            assert np.array_equal(made.codes[speaking], expected.codes[speaking]), f"{rows} rows, step {number}"
            for one, other in zip(state_of(graphed, rows), state_of(plain, rows), strict=True):
                worst = max(worst, float((one.double() - other.double()).abs().max()))
    figure(f"recorded == computed on the card, {card.dtype}, worst state", f"{worst:.1e}")
    assert worst <= CLOSE[card.dtype]


def test_what_a_row_says_does_not_depend_on_the_batch(card: Card) -> None:
    if card.dtype != torch.float64:
        pytest.skip("in less than float64 a product rounds differently in another batch")
    crowd = card.runner()
    rows = 9
    lengths = card.fill(crowd, rows)
    together = [crowd.launch(rows, max(lengths) + number, ()).land() for number in range(8)]
    lonely = card.runner(slots=1)
    for row in range(rows):
        lonely.enter(0, lonely.prepare(*card.newcomer(row)), replace(SAMPLING, seed=row))
        for number, frame in enumerate(together):
            alone = lonely.launch(1, lengths[row] + number, ()).land()
            assert np.array_equal(frame.codes[row], alone.codes[0])


def test_nothing_on_the_way_of_a_step_waits_for_the_card(card: Card) -> None:
    runner = card.runner()
    lengths = card.fill(runner, 3)
    flight = runner.launch(3, max(lengths), ())
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(1, 6):
            read = runner.prepare_many([card.newcomer(20 + number), card.newcomer(30 + number)])
            runner.enter(3, read[0], SAMPLING)
            runner.extend(1, 3, [5, 6, 7], complete=number == 5)
            runner.unpark(3, runner.park(3, read[0].length, read[0].text), read[0].length, read[0].text)
            runner.move(3, 2, read[0].length, read[0].text)
            after = runner.launch(3, max(lengths) + number, {1})
            flight.land()
            flight = after
    finally:
        torch.cuda.set_sync_debug_mode("default")
    flight.land()


def test_a_prompt_of_a_length_never_met_holds_nobody_up(card: Card, figure: Figure) -> None:
    """What is compiled or planned for a length takes some tenths of a second; reading takes milliseconds."""
    runner, took = card.runner(), []
    pad = card.files.model.ids.codec_pad
    for length in range(17, 59):
        prompt = Prompt(tuple(range(5, 5 + length)), (pad,) * length, 8, (7, 8, 9), True)
        torch.cuda.synchronize(GPU)
        began = time.perf_counter()
        runner.prepare(prompt, None)
        torch.cuda.synchronize(GPU)
        took.append(time.perf_counter() - began)
    told = f"{1e3 * statistics.median(took):.1f}, {1e3 * max(took):.1f}"
    figure(f"a prompt of a new length on the card, {card.dtype}, median and worst, ms", told)
    assert max(took) < 0.1


def test_a_thousand_steps_take_no_memory(card: Card) -> None:
    runner = card.runner()
    longest = max(card.fill(runner, 2))
    runner.launch(2, longest, ()).land()
    torch.cuda.synchronize(GPU)
    before = torch.cuda.memory_allocated(GPU), torch.cuda.memory_reserved(GPU)
    for number in range(1_000):
        if number % 50 == 0:
            card.fill(runner, 2)
        runner.launch(2, longest + number % 50, ()).land()
    torch.cuda.synchronize(GPU)
    assert (torch.cuda.memory_allocated(GPU), torch.cuda.memory_reserved(GPU)) == before


def test_steps_launched_ahead_make_the_same_frames(card: Card) -> None:
    ahead, after = card.runner(), card.runner()
    longest = max(card.fill(ahead, 3))
    card.fill(after, 3)
    expected = [after.launch(3, longest + number, ()).land() for number in range(12)]
    flight, made = ahead.launch(3, longest, ()), []
    for number in range(1, 12):
        following = ahead.launch(3, longest + number, ())
        made.append(flight.land())
        flight = following
    made.append(flight.land())
    for one, other in zip(made, expected, strict=True):
        assert np.array_equal(one.codes, other.codes)
        assert np.allclose(one.pcm, other.pcm, rtol=0, atol=1)


def test_a_row_that_moves_and_one_that_comes_while_a_step_is_under_way_are_right(card: Card) -> None:
    moved, still = card.runner(), card.runner()
    lengths = card.fill(moved, 2)
    card.fill(still, 2)
    expected = [still.launch(2, max(lengths) + number, ()).land().codes[1] for number in range(4)]
    first, second = (moved.launch(2, max(lengths) + number, ()) for number in range(2))
    said = [first.land().codes[1]]
    moved.move(1, 0, lengths[1] + 1, 3)
    moved.enter(1, moved.prepare(*card.newcomer(5)), replace(SAMPLING, seed=5))
    third = moved.launch(2, 20, ())
    said += [second.land().codes[1], third.land().codes[0], moved.launch(2, 20, ()).land().codes[0]]
    assert np.array_equal(said, expected)


def test_a_whole_utterance_with_kernels_says_what_it_says_without(demo: Demo) -> None:
    """In float32, where a choice flips only at a near tie; the first frames must agree."""
    said = []
    for kernels in ("on", "off"):
        acceleration = Acceleration(kernels=kernels, tf32="off")
        engine = Engine.load(demo(), CONFIG, VOICES, device="cuda", dtype="float32", acceleration=acceleration)
        engine.start()
        listener = Listener()
        engine.submit(Speak(text="Hello there", seed=3, max_frames=12), listener)
        assert listener.outcome.error is None
        engine.shutdown()
        said.append(listener.codes)
    assert np.array_equal(said[0][:4], said[1][:4])


def test_a_crowd_is_spoken_to_its_end(demo: Demo) -> None:
    engine = Engine.load(demo(model_type="base"), CONFIG, VOICES, device="cuda", dtype="bfloat16")
    engine.start()
    done = threading.Semaphore(0)
    listeners = [Listener(on_end=done.release) for _ in range(40)]
    for seed, listener in enumerate(listeners):
        words = "Good evening." if seed % 2 else None
        speak = Speak(text="Hello there, you. " * (1 + seed % 3), seed=seed, max_frames=20 + seed)
        engine.submit(
            replace(speak, reference_audio=hum(1.5, seed % 4), reference_sample_rate=24_000, reference_text=words),
            listener,
        )
    assert all(done.acquire(timeout=120) for _ in listeners)
    engine.shutdown()
    assert [listener.outcome.error for listener in listeners] == [None] * 40


def test_a_voice_encoded_on_its_own_stream_is_whole_when_a_prompt_is_read(demo: Demo) -> None:
    files = Checkpoint.read(demo(model_type="base"))
    networks = load_networks(files, GPU, torch.float32)
    assert networks.voices is not None
    encoder = VoiceEncoder(networks.voices, GPU, capacity=0, max_waiting=8)
    runner = Runner(networks, files.model, CONFIG, GPU, torch.float32)
    reference = Reference.of(hum(2.0), 24_000, "Some words.")
    hidden = []
    for _ in range(3):
        voice = encoder.encode(reference).result()
        ids = (5,) * 12
        hidden.append(runner.prepare(Prompt(ids, (-2,) + (files.model.ids.codec_pad,) * 11, 4, (), True), voice).hidden)
    torch.cuda.synchronize(GPU)
    encoder.close()
    assert all(torch.equal(one, hidden[0]) for one in hidden)
