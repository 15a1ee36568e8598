"""Rows that are held: a row that waits for its text is left exactly as it was, and goes on as if it had not waited.

On the runner itself, in double precision, with every kind of clone.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Demo
from tests.engine.fakes import PATIENCE_S, Listener
from tts_engine import EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.preparation import Preparation
from tts_engine.runner import Frame, Parked, Prefilled, Runner
from tts_engine.sampling_values import Sampling
from tts_engine.text import TextTokenizer
from tts_engine.voice_encoder import VoiceEncoder
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import Voice, VoiceBook

CPU = torch.device("cpu")
CONFIG = EngineConfig(slots=1, max_text_tokens=160, max_instruct_tokens=32, max_frames=60)
ROWS = 4
FRAMES = 12
RECORDING = np.random.default_rng(8).uniform(-0.4, 0.4, 26_000).astype(np.float32)
CAST = (
    Speak(text="Hello there", seed=1, text_placement="prefill"),
    Speak(text="Good morning to you", seed=2, reference_text="Good evening."),
    Speak(text="Hi", seed=3, reference_text="One, two.", text_placement="prefill"),
    Speak(text="Hi!", temperature=0, seed=4, repetition_penalty=1.5),
)


@dataclass(frozen=True)
class Troupe:
    """Four generations, read and ready to enter a slot, and the runners they may enter."""

    base: Checkpoint
    networks: Networks
    members: tuple[tuple[Prefilled, Sampling], ...]
    alone: tuple[tuple[Frame, ...], ...]

    def runner(self, slots: int) -> Runner:
        return Runner(self.networks, self.base.model, replace(CONFIG, slots=slots), CPU, torch.float64)


@pytest.fixture(scope="module")
def troupe(demo: Demo) -> Troupe:
    base = Checkpoint.read(demo(model_type="base"))
    networks = load_networks(base, CPU, torch.float64)
    assert networks.voices is not None
    encoder = VoiceEncoder(networks.voices, CPU, capacity=2**30, max_waiting=8)
    preparation = Preparation(base, CONFIG, VoiceBook(base.model, VoiceLibrary(None), ""))
    whole = Troupe(base, networks, (), ())
    members, alone = [], []
    for speak in CAST:
        asked, voice = preparation.prepare(
            replace(speak, reference_audio=RECORDING, reference_sample_rate=24_000), Listener()
        )
        assert voice.reference is not None
        prompt = preparation.prompts.fill(asked.template, asked.script.segments[0].ids)
        runner = whole.runner(slots=1)
        read = runner.prepare(prompt, encoder.encode(voice.reference).result(PATIENCE_S))
        runner.enter(0, read, asked.sampling)
        members.append((read, asked.sampling))
        alone.append(tuple(runner.launch(1, read.length + number, ()).land() for number in range(FRAMES)))
    encoder.close()
    return replace(whole, members=tuple(members), alone=tuple(alone))


def state_of(runner: Runner, row: int) -> list[torch.Tensor]:
    """A copy of everything a later frame of `row` may depend on."""
    length = int(runner._positions[row])
    codec = runner._codec_state.take(row)
    return [
        *(buffer[row].clone() for buffer in (runner._hidden, runner._positions, runner._frames)),
        *(storage[:, row, :, :length].clone() for storage in (runner._cache.keys, runner._cache.values)),
        *(runner._trailing[row].clone(), runner._trailing_count[row].clone(), runner._sampling.seen[row].clone()),
        *(torch.tensor(codec.frames), codec.keys, codec.values, *codec.tails),
    ]


def says(frame: Frame, row: int, expected: Frame) -> bool:
    same = np.array_equal(frame.codes[row], expected.codes[0]) and frame.ended[row] == expected.ended[0]
    return same and np.allclose(frame.pcm[row], expected.pcm[0], rtol=0, atol=1)


@given(
    pattern=st.lists(st.sets(st.integers(0, ROWS - 1), max_size=ROWS - 1), min_size=1, max_size=9),
    leaves=st.none() | st.integers(0, ROWS - 2),
)
@settings(max_examples=25)
def test_whoever_is_held_when_each_row_says_what_it_says_alone(
    troupe: Troupe, pattern: list[set[int]], leaves: int | None
) -> None:
    runner = troupe.runner(slots=ROWS + 1)
    for slot, member in enumerate(troupe.members):
        runner.enter(slot, *member)
    playing, at = list(range(ROWS)), [0] * ROWS

    def step(held: set[int]) -> None:
        kept = {row: state_of(runner, row) for row in held}
        longest = max(troupe.members[who][0].length + at[who] for who in playing)
        frame = runner.launch(len(playing), longest, held).land()
        for row, state in kept.items():
            assert all(torch.equal(old, new) for old, new in zip(state, state_of(runner, row), strict=True))
        for row, who in enumerate(playing):
            if row not in held:
                assert says(frame, row, troupe.alone[who][at[who]])
                at[who] += 1

    for held in pattern:
        step(held)
    if leaves is not None:  # the last row, held or not until now, moves into the place of one that leaves
        last = playing.pop()
        read = troupe.members[last][0]
        runner.move(ROWS - 1, leaves, read.length + at[last], read.text)
        playing[leaves] = last
    for _ in range(3):
        step(set())


@given(cuts=st.lists(st.integers(0, 5), min_size=1, max_size=6), patience=st.integers(0, 3))
@settings(max_examples=20)
def test_text_laid_out_while_a_row_was_held_is_said_as_if_it_had_always_been_there(
    troupe: Troupe, cuts: list[int], patience: int
) -> None:
    preparation = Preparation(troupe.base, CONFIG, VoiceBook(troupe.base.model, VoiceLibrary(None), ""))
    tokens = TextTokenizer(troupe.base.folder, "qwen2").encode("Hello there, you")
    template = preparation.prompts.template(Voice("anyone"), language="auto", instruct=None, placement="stream")
    sampling = troupe.members[0][1]
    whole, live = troupe.runner(slots=1), troupe.runner(slots=2)
    whole.enter(0, whole.prepare(preparation.prompts.fill(template, tokens), None), sampling)
    read = live.prepare(preparation.prompts.fill(template, tokens[:1], complete=False), None)
    live.enter(0, *troupe.members[1])
    live.enter(1, read, sampling)
    laid, made = 0, 0
    for cut in [*cuts, len(tokens)]:
        more = tokens[1 + laid : 1 + laid + cut]
        done = 1 + laid + len(more) == len(tokens)
        ids = [*more, *(preparation.prompts.end_of_text() if done else ())]
        live.extend(1, laid, ids, complete=done)
        laid += len(ids)
        for _ in range(patience):
            live.launch(2, 80, {1}).land()
        while made < min(laid, FRAMES):
            assert says(live.launch(2, 80, {0}).land(), 1, whole.launch(1, 80, ()).land())
            made += 1
        if done:
            break
    for _ in range(3):
        assert says(live.launch(2, 80, ()).land(), 1, whole.launch(1, 80, ()).land())


@given(turns=st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, 2)), min_size=1, max_size=8))
@settings(max_examples=20)
def test_whoever_is_set_aside_and_when_goes_on_in_any_slot_as_if_it_had_stayed(
    troupe: Troupe, turns: list[tuple[int, int]]
) -> None:
    """Two slots for four: at each turn the one whose turn it is takes a slot, and who was there is copied out."""
    runner, seats, at = troupe.runner(slots=2), [0, 1], [0] * ROWS
    kept: dict[int, tuple[Parked, int, int]] = {}
    for slot, who in enumerate(seats):
        runner.enter(slot, *troupe.members[who])

    def used(who: int) -> tuple[int, int]:
        read = troupe.members[who][0]
        return read.length + at[who], read.text

    def play() -> None:
        frame = runner.launch(2, max(used(who)[0] for who in seats), ()).land()
        for row, who in enumerate(seats):
            assert says(frame, row, troupe.alone[who][at[who]])
            at[who] += 1

    for number, (who, frames) in enumerate(turns):
        if who not in seats:
            slot = number % 2
            kept[seats[slot]] = (runner.park(slot, *used(seats[slot])), *used(seats[slot]))
            if who in kept:
                runner.unpark(slot, *kept.pop(who))
            else:
                runner.enter(slot, *troupe.members[who])
            seats[slot] = who
        for _ in range(frames):
            if max(at[who] for who in seats) < FRAMES:
                play()
