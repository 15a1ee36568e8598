"""The scheduler against a model of itself: a line of people, and seats without gaps."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.engine.fakes import Listener
from tts_engine.prompt import Prompt
from tts_engine.request import Utterance
from tts_engine.sampling import Sampling
from tts_engine.scheduler import Move, Scheduler

PROMPT = Prompt((1,), (1,), (), 1)
SAMPLING = Sampling(0.0, 0, 1.0, 1.0, 0.0, 0, 1.0, 0)


def utterance(number: int) -> Utterance:
    return Utterance(id=number, prompt=PROMPT, sampling=SAMPLING, sink=Listener(), max_frames=1, description={})


class SchedulerModel(RuleBasedStateMachine):
    """Beside the scheduler, who is where; `state` plays the device's rows and is changed by moves alone."""

    @initialize(slots=st.integers(1, 5))
    def start(self, slots: int) -> None:
        self.scheduler, self.slots = Scheduler(slots), slots
        self.waiting: list[int] = []
        self.state: dict[int, int] = {}
        self.left: list[int] = []
        self.entered = 0

    @rule()
    def enqueue(self) -> None:
        self.entered += 1
        self.scheduler.enqueue(utterance(self.entered))
        self.waiting.append(self.entered)

    @rule()
    def admit(self) -> None:
        for someone, slot in self.scheduler.admit():
            assert someone.id == self.waiting.pop(0), "first come, first served"
            assert slot not in self.state, "the slot was free"
            self.state[slot] = someone.id
        assert not self.waiting or len(self.state) == self.slots, "nobody waits while a slot is free"

    @precondition(lambda self: self.state)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.state)))
        self.left.append(self.state.pop(slot))
        move = self.scheduler.retire(slot)
        if move is not None:
            assert move == Move(source=len(self.state), target=slot)
            self.state[move.target] = self.state.pop(move.source)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, self.entered + 1))
        taken = self.scheduler.withdraw(number)
        assert (taken is not None) == (number in self.waiting)
        if taken is not None:
            assert taken.id == number
            self.waiting.remove(number)
            self.left.append(number)

    @rule()
    def drain(self) -> None:
        everybody = [someone.id for someone in self.scheduler.drain()]
        assert everybody == [self.state[slot] for slot in sorted(self.state)] + self.waiting
        self.left += everybody
        self.state.clear()
        self.waiting.clear()

    @invariant()
    def running_fill_the_first_slots_in_the_order_of_the_device(self) -> None:
        assert sorted(self.state) == list(range(len(self.state)))
        assert [someone.id for someone in self.scheduler.running] == [self.state[s] for s in sorted(self.state)]
        assert self.scheduler.waiting == len(self.waiting)

    @invariant()
    def everybody_is_in_exactly_one_place(self) -> None:
        places = [*self.waiting, *self.state.values(), *self.left]
        assert sorted(places) == list(range(1, self.entered + 1))
        for number in range(self.entered + 2):
            expected = next((slot for slot, someone in self.state.items() if someone == number), None)
            assert self.scheduler.slot_of(number) == expected


TestTheSchedulerAgreesWithItsModel = SchedulerModel.TestCase
TestTheSchedulerAgreesWithItsModel.settings = settings(max_examples=60, stateful_step_count=40)


def test_the_last_slots_retirement_moves_nothing() -> None:
    scheduler = Scheduler(2)
    for number in (1, 2):
        scheduler.enqueue(utterance(number))
    assert [slot for _, slot in scheduler.admit()] == [0, 1]
    assert scheduler.retire(1) is None
    assert scheduler.retire(0) is None
    assert scheduler.running == ()
