"""A cancelled slot leaves no trace: on the real networks, in double precision, at every step of an utterance."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import Listener
from tts_engine import Engine, EngineConfig, Speak

CONFIG = EngineConfig(slots=3, max_waiting=4, max_text_tokens=64, max_instruct_tokens=100, max_frames=60)
STEPS = 6
VICTIM = Speak(text="Never mind", voice="ryan", seed=99, max_frames=STEPS)
OTHERS = (
    Speak(text="Hello there", seed=1, max_frames=9, text_placement="stream"),
    Speak(text="你好", voice="dylan", seed=2, max_frames=10),
)
WAITING = Speak(text="My turn", voice="sohee", seed=3, max_frames=5)


class Scene:
    """Two utterances and a victim, in any slot, fill the engine; a fourth waits."""

    def __init__(self, engine: Engine, victim_slot: int, cancel_after: int) -> None:
        self._engine, self._cancel_after = engine, cancel_after
        self.others = [Listener(), Listener()]
        self.victim = Listener(on_frame=self._victim_heard)
        self.waiting = Listener(on_frame=self._waiting_heard)
        self.others_heard: list[int] = []
        """How many frames each of the others had when the one who waited was first heard."""
        self._victim_id = 0
        cast = [(speak, listener) for speak, listener in zip(OTHERS, self.others, strict=True)]
        cast.insert(victim_slot, (VICTIM, self.victim))
        self._cast = [*cast, (WAITING, self.waiting)]

    def play(self) -> None:
        """All four come in together, from the engine thread, and all end."""
        opening = Listener(on_frame=self._curtain)
        self._engine.submit(Speak(text="Now", seed=0, max_frames=1), opening)
        for listener in (opening, self.victim, *self.others, self.waiting):
            assert listener.outcome.error is None

    def _curtain(self, count: int) -> None:
        for speak, listener in self._cast:
            utterance_id = self._engine.submit(speak, listener)
            if listener is self.victim:
                self._victim_id = utterance_id
        if self._cancel_after == 0:
            self._engine.cancel(self._victim_id)

    def _waiting_heard(self, count: int) -> None:
        self.others_heard = self.others_heard or [len(other.frames) for other in self.others]

    def _victim_heard(self, count: int) -> None:
        if count == self._cancel_after:
            self._engine.cancel(self._victim_id)


def spoken_alone(engine: Engine, speak: Speak) -> npt.NDArray[np.int64]:
    listener = Listener()
    engine.submit(speak, listener)
    assert listener.outcome.error is None
    return listener.codes


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_a_cancelled_slot_leaves_no_trace(load_engine: LoadEngine, slot: int, figure: Figure) -> None:
    engine = load_engine(CONFIG, dtype="float64")
    expected = [spoken_alone(engine, speak) for speak in (*OTHERS, WAITING)]
    whole = spoken_alone(engine, VICTIM)
    for step in range(STEPS):
        scene = Scene(engine, slot, cancel_after=step)
        scene.play()
        assert scene.victim.outcome.reason == "cancelled"
        assert len(scene.victim.codes) == step
        assert np.array_equal(scene.victim.codes, whole[:step])
        for listener, codes in zip((*scene.others, scene.waiting), expected, strict=True):
            assert np.array_equal(listener.codes, codes)
    figure(f"cancelled in slot {slot} at each of {STEPS} steps", "the others' codes unchanged")
    assert engine.statistics.active == engine.statistics.waiting == 0
    assert np.array_equal(spoken_alone(engine, VICTIM), whole)


def test_the_waiting_one_gets_the_slot_of_the_cancelled_one(load_engine: LoadEngine) -> None:
    engine = load_engine(CONFIG)
    scene = Scene(engine, victim_slot=1, cancel_after=2)
    scene.play()
    # The victim had two frames and would have had six; the others, who may have come in a step later, no more than it.
    assert len(scene.others_heard) == 2
    assert max(scene.others_heard) <= 4
    assert scene.waiting.outcome.reason == "max_length"


def test_a_cancel_after_the_last_frame_changes_nothing(load_engine: LoadEngine) -> None:
    engine = load_engine(CONFIG)
    scene = Scene(engine, victim_slot=0, cancel_after=STEPS)
    scene.play()
    assert scene.victim.outcome.reason == "max_length"
    assert len(scene.victim.codes) == STEPS
    assert engine.statistics.cancelled == 0
