"""The scheduler against a model of itself: a line of people, and seats without gaps."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.engine.fakes import Listener
from tts_engine.prompt import Template
from tts_engine.request import Script, Utterance
from tts_engine.sampling_values import Sampling
from tts_engine.scheduler import Move, Scheduler

TEMPLATE = Template((), "stream")
SAMPLING = Sampling(0.0, 0, 1.0, 1.0, 0.0, 0, 1.0, 0)


def utterance(number: int, *, live: bool = False, awaits_voice: bool = False) -> Utterance:
    return Utterance(
        id=number,
        template=TEMPLATE,
        script=Script(live=[], complete=False) if live else Script(),
        sampling=SAMPLING,
        sink=Listener(),
        max_frames=1,
        trim_leading_silence=True,
        description={},
        awaits_voice=awaits_voice,
    )


class SchedulerModel(RuleBasedStateMachine):
    """Beside the scheduler, who is where; `state` plays the device's rows and is changed by moves alone.

    ready: who of the waiting could come in. dry: who of the running has no text for the next frame.
    """

    @initialize(slots=st.integers(1, 5))
    def start(self, slots: int) -> None:
        self.scheduler, self.slots = Scheduler(slots), slots
        self.waiting: list[int] = []
        self.ready: set[int] = set()
        self.dry: set[int] = set()
        self.state: dict[int, int] = {}
        self.left: list[int] = []
        self.entered = 0

    @rule(live=st.booleans(), awaits_voice=st.booleans())
    def enqueue(self, live: bool, awaits_voice: bool) -> None:
        self.entered += 1
        self.scheduler.enqueue(utterance(self.entered, live=live, awaits_voice=awaits_voice))
        self.waiting.append(self.entered)
        if not live and not awaits_voice:
            self.ready.add(self.entered)

    @precondition(lambda self: set(self.waiting) - self.ready)
    @rule(data=st.data())
    def become_ready(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(set(self.waiting) - self.ready)))
        someone = self.scheduler.find(number)
        assert someone is not None
        someone.awaits_voice = False
        if someone.script.live is not None:
            someone.script.live.append(1)
        self.ready.add(number)

    @rule()
    def admit(self) -> None:
        for someone, slot in self.scheduler.admit():
            expected = next(number for number in self.waiting if number in self.ready)
            assert someone.id == expected, "first ready, first served"
            assert slot not in self.state, "the slot was free"
            self.waiting.remove(someone.id)
            self.ready.discard(someone.id)
            self.state[slot] = someone.id
            if someone.dry:
                self.dry.add(someone.id)
        assert not self.ready or len(self.state) == self.slots, "nobody who is ready waits while a slot is free"

    @precondition(lambda self: self.dry)
    @rule(data=st.data())
    def get_text(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.dry)))
        someone = self.scheduler.find(number)
        assert someone is not None
        someone.script.complete = True
        self.dry.discard(number)

    @precondition(lambda self: self.state)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.state)))
        self.dry.discard(self.state[slot])
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
            self.ready.discard(number)
            self.left.append(number)

    @rule()
    def drain(self) -> None:
        everybody = [someone.id for someone in self.scheduler.drain()]
        assert everybody == [self.state[slot] for slot in sorted(self.state)] + self.waiting
        self.left += everybody
        for place in (self.state, self.waiting, self.ready, self.dry):
            place.clear()

    @invariant()
    def running_fill_the_first_slots_in_the_order_of_the_device(self) -> None:
        assert sorted(self.state) == list(range(len(self.state)))
        assert [someone.id for someone in self.scheduler.running] == [self.state[s] for s in sorted(self.state)]
        assert [someone.id for someone in self.scheduler.waiting] == self.waiting

    @invariant()
    def there_is_work_when_somebody_can_come_in_or_speak(self) -> None:
        can_enter = bool(self.ready) and len(self.state) < self.slots
        can_speak = bool(set(self.state.values()) - self.dry)
        assert self.scheduler.has_work == (can_enter or can_speak)

    @invariant()
    def everybody_is_in_exactly_one_place(self) -> None:
        places = [*self.waiting, *self.state.values(), *self.left]
        assert sorted(places) == list(range(1, self.entered + 1))
        for number in range(self.entered + 2):
            expected = next((slot for slot, someone in self.state.items() if someone == number), None)
            assert self.scheduler.slot_of(number) == expected
            found = self.scheduler.find(number)
            assert (found.id if found else None) == (
                number if number in places[: len(places) - len(self.left)] else None
            )


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
