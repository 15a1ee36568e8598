"""More listeners than slots, on a clock of the tests' own: whose turn it is, and what each of them hears of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Demo, Figure
from tests.engine.rehearsal import Clock, Rehearsal, TimedListener, TimedRunner, lasting, real_runner
from tts_engine import EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.runner import Runner

CONFIG = EngineConfig(slots=4, max_waiting=1_000, max_wait_seconds=0, segment_tokens=4_000, parked_mb=1)
KEPT = replace(CONFIG, parked_mb=0)
FAST, BARELY, TOO_SLOW = 0.010, 0.070, 0.100


@dataclass
class Audience:
    """Who came when and hears how many frames: `crowd` of them, one every `every` seconds."""

    rehearsal: Rehearsal
    heard: list[tuple[float, int, TimedListener]]

    @property
    def waits(self) -> list[float]:
        """How long each waited for its first sound."""
        return [listener.times[0] - came for came, _, listener in self.heard]

    @property
    def gaps(self) -> list[float]:
        return [gap for _, _, listener in self.heard for gap in listener.gaps]


def staged(
    checkpoint: Checkpoint,
    step: Callable[[int], float],
    frames: list[int],
    config: EngineConfig = CONFIG,
    *,
    every: float = 0.0,
    ahead: int = 0,
    prompt: float = 0.0,
) -> Audience:
    """Play it to the end: each of `frames` is a listener who hears so many."""
    clock = Clock()
    runner = TimedRunner(clock, step, ahead=ahead, prompt=prompt, copy=0.0005)
    audience = Audience(Rehearsal(checkpoint, config, runner, clock), [])
    generation, began = audience.rehearsal.generation, clock.now
    while len(audience.heard) < len(frames) or generation.has_work:
        while len(audience.heard) < len(frames) and began + len(audience.heard) * every <= clock.now:
            count = frames[len(audience.heard)]
            came, text = began + len(audience.heard) * every, "x" * (count // 3 + 1)
            audience.heard.append((came, count, audience.rehearsal.listen(lasting(count, text=text))))
        if generation.has_work:
            generation.advance()
        else:
            clock.now = began + len(audience.heard) * every
    for _, count, listener in audience.heard:
        assert listener.outcome.reason == "complete"
        assert listener.codes[:, :2].tolist() == [[count, number] for number in range(count)]
    return audience


def test_six_listeners_a_slot_all_hear_their_first_sound_within_a_second_and_no_gap(
    checkpoint: Checkpoint, figure: Figure
) -> None:
    """Who has sound in hand steps aside for who has none; with slots kept to the end the last would wait for long."""
    frames = [80 + 5 * number for number in range(24)]
    turns, kept = (staged(checkpoint, lambda rows: FAST, frames, config, prompt=0.002) for config in (CONFIG, KEPT))
    figure(
        "24 listeners of 4 slots, steps of 10 ms",
        f"last first sound after {max(turns.waits):.2f} s, {max(kept.waits):.2f} s when slots are kept; "
        f"{len(turns.gaps)} gaps; {turns.rehearsal.runner.parkings} times set aside; "  # type: ignore[attr-defined]
        f"{turns.rehearsal.clock.now - kept.rehearsal.clock.now:+.2f} s of work in all",
    )
    assert max(turns.waits) <= 1.2
    assert max(kept.waits) > 4 * max(turns.waits)
    assert turns.gaps == kept.gaps == []
    assert turns.rehearsal.statistics.underruns == 0


@pytest.mark.parametrize("step", [BARELY, TOO_SLOW])
def test_where_no_row_can_be_spared_the_line_is_first_come_first_served(checkpoint: Checkpoint, step: float) -> None:
    audience = staged(checkpoint, lambda rows: step, [40] * 12)
    assert audience.waits == sorted(audience.waits)
    assert audience.rehearsal.runner.parkings == 0  # type: ignore[attr-defined]
    gaps = sum(bool(listener.gaps) for _, _, listener in audience.heard)
    assert gaps == (0 if step == BARELY else 12)
    assert audience.rehearsal.statistics.underruns == len(audience.gaps)


def test_steps_are_kept_as_small_as_real_time_needs(checkpoint: Checkpoint, figure: Figure) -> None:
    """A row costs 20 ms: three are made in real time, eight are not, though there are eight slots."""
    audience = staged(checkpoint, lambda rows: 0.020 * rows, [60] * 16, replace(CONFIG, slots=8), every=0.5)
    sizes = audience.rehearsal.runner.sizes  # type: ignore[attr-defined]
    large = sum(size > 3 for size in sizes)
    figure("steps of 20 ms a row, 8 slots, 16 listeners", f"{large} of {len(sizes)} steps too large")
    assert large < 0.05 * len(sizes)
    assert audience.gaps == []


@given(
    slots=st.integers(1, 5),
    step=st.floats(0.002, 0.060),
    every=st.floats(0.0, 0.3),
    ahead=st.integers(0, 1),
    seed=st.integers(0, 999),
)
@settings(max_examples=25)
def test_nobody_who_was_let_in_ever_runs_dry_and_nobody_waits_for_ever(
    checkpoint: Checkpoint, slots: int, step: float, every: float, ahead: int, seed: int
) -> None:
    draw = random.Random(seed)
    frames = [draw.randint(1, 120) for _ in range(30)]
    audience = staged(checkpoint, lambda rows: step, frames, replace(CONFIG, slots=slots), every=every, ahead=ahead)
    assert audience.gaps == []
    # Whatever the order, there is never more to do than all that was asked for.
    assert max(audience.waits) <= (sum(frames) / slots + 2 * len(frames)) * (step + 0.01) + 120 * step


def test_newcomers_do_not_hold_up_speakers_by_more_than_they_have_in_hand(checkpoint: Checkpoint) -> None:
    """Twenty come at once beside three: 30 ms a prompt, twenty of them 600 ms, and none of the three hears of it."""
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: 0.030, prompt=0.030)
    rehearsal = Rehearsal(checkpoint, replace(CONFIG, slots=24), runner, clock)
    first = [rehearsal.listen(lasting(60)) for _ in range(3)]
    rehearsal.run(until=lambda: len(first[-1].frames) == 4)
    rest = [rehearsal.listen(lasting(30)) for _ in range(20)]
    before = len(runner.sizes)
    rehearsal.run(until=lambda: all(listener.frames for listener in rest))
    took = len(runner.sizes) - before
    rehearsal.run()
    assert [listener.gaps for listener in first] == [[]] * 3
    assert 2 <= took <= 20


def test_the_first_of_a_crowd_does_not_wait_for_the_prompts_of_all(checkpoint: Checkpoint) -> None:
    """Forty come to an idle engine, 5 ms a prompt: heard in the order they came, ten or so at a time."""
    config = replace(CONFIG, slots=40)
    clock = Clock()
    rehearsal = Rehearsal(checkpoint, config, TimedRunner(clock, lambda rows: 0.010, prompt=0.005), clock)
    rehearsal.listen(lasting(3))
    rehearsal.run()
    began = clock.now
    crowd = [rehearsal.listen(lasting(10)) for _ in range(40)]
    rehearsal.run()
    waits = [listener.times[0] - began for listener in crowd]
    assert waits == sorted(waits)
    assert waits[0] <= 0.1
    assert waits[-1] <= 40 * 0.005 + 10 * 0.010
    assert not [gap for listener in crowd for gap in listener.gaps]


@pytest.mark.parametrize(
    ("prompt", "step"), [(0.005, 0.010), (0.030, 0.030), (0.075, 0.200), (0.230, 0.200), (2.0, 0.2)]
)
@pytest.mark.parametrize("together", [True, False])
def test_eight_who_come_at_once_to_nobody_are_heard_sooner_than_one_a_step(
    checkpoint: Checkpoint, prompt: float, step: float, together: bool, figure: Figure
) -> None:
    """together: all are there before the engine looks; else it has begun to read the first one's prompt."""
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: step * (0.5 + rows / 16), prompt=prompt)
    rehearsal = Rehearsal(checkpoint, replace(CONFIG, slots=8), runner, clock)
    for _ in range(3):
        rehearsal.listen(lasting(2))
        rehearsal.run()
    began, before = clock.now, len(runner.sizes)
    crowd = [rehearsal.listen(lasting(10)) for _ in range(8 if together else 1)]
    if not together:
        rehearsal.generation.advance()
        crowd += [rehearsal.listen(lasting(10)) for _ in range(7)]
    rehearsal.run()
    waits = [listener.times[0] - began for listener in crowd]
    ends = [began]
    for rows in range(1, 9):
        ends.append(ends[-1] + prompt + step * (0.5 + rows / 16))
    one_a_step = [end - began for end in ends[1:]]
    sizes = runner.sizes[before:]
    figure(
        f"burst of 8, prompts of {1000 * prompt:.0f} ms, steps of {1000 * step:.0f} ms, all at once: {together}",
        f"first sound, mean / last: {sum(waits) / 8:.2f} / {max(waits):.2f} s, one a step {sum(one_a_step) / 8:.2f} / "
        f"{max(one_a_step):.2f} s; a full batch after {sizes.index(8)} steps",
    )
    assert sum(waits) <= sum(one_a_step) * 1.001
    assert max(waits) <= max(one_a_step) * 1.001
    if 2 * prompt <= step:
        assert sizes[0] == 8


@pytest.mark.parametrize("slots", [5, 6])
def test_who_waits_for_text_before_its_first_step_keeps_nobody_out(checkpoint: Checkpoint, slots: int) -> None:
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: 0.200, prompt=0.500)
    rehearsal = Rehearsal(checkpoint, replace(CONFIG, slots=slots), runner, clock)
    for _ in range(2):
        rehearsal.listen(lasting(2))
        rehearsal.run()
    began = []
    for number in range(5):
        live = Speak(text="", voice="ryan", seed=9, utterance=f"u{number}", text_complete=False)
        began.append(rehearsal.submit(live, TimedListener(clock)))
        rehearsal.generation.extend(began[-1].id, [1], complete=False)
    rehearsal.run()
    assert [(utterance.generation, utterance.frames) for utterance in began] == [(1, 0)] * 5, "all are seated, and dry"
    other = rehearsal.listen(lasting(3))
    rehearsal.run(until=lambda: bool(other.outcomes))
    assert other.outcome.reason == "complete"


def test_written_text_that_pauses_gives_its_slot_to_others(checkpoint: Checkpoint) -> None:
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: FAST)
    rehearsal = Rehearsal(checkpoint, replace(CONFIG, slots=1), runner, clock)
    written = TimedListener(clock)
    live = Speak(text="", voice="ryan", seed=40, utterance="u", text_complete=False)
    utterance = rehearsal.submit(live, written)
    rehearsal.generation.extend(utterance.id, [1, 2, 3, 4], complete=False)
    rehearsal.run()
    assert 0 < len(written.frames) < 5
    other = rehearsal.listen(lasting(20))
    rehearsal.run()
    assert other.outcome.reason == "complete"
    assert not written.outcomes
    rehearsal.generation.extend(utterance.id, [5, 6], complete=True)
    rehearsal.run()
    assert written.outcome.reason == "complete"
    assert written.codes[:, 1].tolist() == list(range(40))
    assert rehearsal.statistics.underruns == 0, "that it waited for its text was no fault of the engine's"


def test_parked_text_that_stays_away_ends_its_utterance(checkpoint: Checkpoint) -> None:
    clock = Clock()
    rehearsal = Rehearsal(checkpoint, replace(CONFIG, slots=1), TimedRunner(clock, lambda rows: FAST), clock)
    written = TimedListener(clock)
    live = Speak(text="", voice="ryan", seed=40, utterance="u", text_complete=False)
    rehearsal.generation.extend(rehearsal.submit(live, written).id, [1, 2, 3], complete=False)
    rehearsal.run()
    rehearsal.listen(lasting(5))
    rehearsal.run()
    assert rehearsal.statistics.parked == 1
    deadline = rehearsal.generation.deadline()
    assert deadline is not None
    clock.now = deadline
    rehearsal.generation.advance()
    assert written.outcome.reason == "text_timeout"
    assert rehearsal.statistics.parked == 0


def test_the_memory_for_those_set_aside_is_kept(checkpoint: Checkpoint) -> None:
    clock = Clock()
    runner = TimedRunner(clock, lambda rows: FAST, parked_bytes=400_000)
    rehearsal = Rehearsal(checkpoint, CONFIG, runner, clock)
    listeners, most = [rehearsal.listen(lasting(60)) for _ in range(20)], 0

    def watch() -> bool:
        nonlocal most
        most = max(most, rehearsal.statistics.parked)
        return False

    rehearsal.run(until=watch)
    assert all(listener.outcome.reason == "complete" for listener in listeners)
    assert most == 3, "the third overruns the mebibyte, a fourth does not come"
    assert rehearsal.pace.limits.listeners == CONFIG.slots + 3, "so no more are promised that they share the slots"


def test_the_real_networks_say_the_same_to_those_who_were_set_aside(demo: Demo, checkpoint: Checkpoint) -> None:
    import torch

    networks = load_networks(checkpoint, torch.device("cpu"), torch.float64)
    config = replace(CONFIG, slots=2, max_frames=40, parked_mb=64)
    speaks = [Speak(text="Say it well, all of it. " * 3, voice="ryan", seed=n, max_frames=17 + n) for n in range(4)]
    crowd, alone = (Rehearsal(checkpoint, config, real_runner(Runner, checkpoint, networks, config)) for _ in range(2))
    parked = 0

    def watch() -> bool:
        nonlocal parked
        parked = max(parked, crowd.statistics.parked)
        return False

    together = [crowd.listen(speak) for speak in speaks]
    crowd.run(until=watch)
    assert parked >= 1
    for speak, listener in zip(speaks, together, strict=True):
        lonely = alone.listen(speak)
        alone.run()
        assert (listener.codes == lonely.codes).all()
        assert len(listener.codes) > 13
