"""The scheduler against a model of itself: a line of people, seats without gaps, and those who stepped aside."""

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


# Most are ready when they come; some wait for text, some for their voice.
KINDS = st.sampled_from([{}, {}, {}, {"live": True}, {"awaits_voice": True}])
A_CROWD = 15


class SchedulerModel(RuleBasedStateMachine):
    """Beside the scheduler, who is where; `state` plays the device's rows and is changed by moves alone.

    ready: who of the waiting could come in. moves: how often a row was moved in all runs.
    """

    moves = 0

    @initialize(slots=st.integers(1, 5))
    def start(self, slots: int) -> None:
        self.scheduler, self.slots = Scheduler(slots), slots
        self.waiting: list[int] = []
        self.ready: set[int] = set()
        self.parked: list[int] = []
        self.state: dict[int, int] = {}
        self.left: list[int] = []
        self.entered = 0

    @rule(kinds=st.lists(KINDS, min_size=1, max_size=4))
    def enqueue(self, kinds: list[dict[str, bool]]) -> None:
        for kind in kinds:
            self.entered += 1
            self.scheduler.enqueue(utterance(self.entered, **kind))
            self.waiting.append(self.entered)
            if not kind:
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

    def next_number(self) -> int | None:
        return next((number for number in self.waiting if number in self.ready), None)

    @precondition(lambda self: len(self.state) < self.slots and (self.ready or self.parked))
    @rule(data=st.data())
    def enter(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([n for n in (self.next_number(), *self.parked) if n is not None]))
        someone = self.scheduler.find(number)
        assert someone is not None
        slot = self.scheduler.enter(someone)
        assert slot not in self.state, "the slot was free"
        self.take_out(number)
        self.state[slot] = number

    @precondition(lambda self: self.ready)
    @rule()
    def let_in_as_many_as_there_is_room_for(self) -> None:
        while len(self.state) < self.slots and (number := self.next_number()) is not None:
            someone = self.scheduler.find(number)
            assert someone is not None
            assert self.scheduler.enter(someone) == len(self.state)
            self.take_out(number)
            self.state[len(self.state)] = number

    @precondition(lambda self: self.state and (self.ready or self.parked))
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([n for n in (self.next_number(), *self.parked) if n is not None]))
        slot = data.draw(st.sampled_from(sorted(self.state)))
        someone = self.scheduler.find(number)
        assert someone is not None
        self.scheduler.swap(slot, someone)
        self.take_out(number)
        self.parked.append(self.state[slot])
        self.state[slot] = number

    @precondition(lambda self: self.state)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.state)))
        move = self.scheduler.park(slot)
        self.parked.append(self.state.pop(slot))
        self.carry_out(move)

    def take_out(self, number: int) -> None:
        if number in self.parked:
            self.parked.remove(number)
        else:
            self.waiting.remove(number)
            self.ready.discard(number)

    def carry_out(self, move: Move | None) -> None:
        if move is not None:
            SchedulerModel.moves += 1
            assert move == Move(source=len(self.state), target=move.target)
            self.state[move.target] = self.state.pop(move.source)

    @precondition(lambda self: self.state)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.state)))
        self.left.append(self.state.pop(slot))
        move = self.scheduler.retire(slot)
        assert (move is None) == (slot == len(self.state)), "the last one's place is no gap"
        assert move is None or move.target == slot
        self.carry_out(move)

    @precondition(lambda self: self.entered)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, self.entered + 1))
        taken = self.scheduler.withdraw(number)
        assert (taken is not None) == (number in self.waiting or number in self.parked)
        if taken is not None:
            assert taken.id == number
            self.take_out(number)
            self.left.append(number)

    @precondition(lambda self: self.entered >= A_CROWD)
    @rule()
    def drain(self) -> None:
        self.everybody_leaves()

    def teardown(self) -> None:
        self.everybody_leaves()

    def everybody_leaves(self) -> None:
        everybody = [someone.id for someone in self.scheduler.drain()]
        assert everybody == [self.state[slot] for slot in sorted(self.state)] + self.parked + self.waiting
        self.left += everybody
        for place in (self.state, self.parked, self.waiting, self.ready):
            place.clear()

    @invariant()
    def running_fill_the_first_slots_in_the_order_of_the_device(self) -> None:
        assert sorted(self.state) == list(range(len(self.state)))
        assert [someone.id for someone in self.scheduler.running] == [self.state[s] for s in sorted(self.state)]
        assert [someone.id for someone in self.scheduler.waiting] == self.waiting
        assert [someone.id for someone in self.scheduler.parked] == self.parked

    @invariant()
    def the_first_of_the_ready_is_next(self) -> None:
        following = self.scheduler.next_ready
        assert (following.id if following else None) == self.next_number()

    @invariant()
    def everybody_is_in_exactly_one_place(self) -> None:
        places = [*self.waiting, *self.parked, *self.state.values(), *self.left]
        assert sorted(places) == list(range(1, self.entered + 1))
        for number in range(self.entered + 2):
            expected = next((slot for slot, someone in self.state.items() if someone == number), None)
            assert self.scheduler.slot_of(number) == expected
            found = self.scheduler.find(number)
            assert (found.id if found else None) == (
                number if number in places[: len(places) - len(self.left)] else None
            )


class TestTheSchedulerAgreesWithItsModel(SchedulerModel.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(max_examples=60, stateful_step_count=40)

    def runTest(self) -> None:
        super().runTest()
        assert SchedulerModel.moves > 5, "rows hardly ever moved, so nothing was seen of them"


def test_the_last_slots_retirement_moves_nothing() -> None:
    scheduler = Scheduler(2)
    for number in (1, 2):
        someone = utterance(number)
        scheduler.enqueue(someone)
        assert scheduler.enter(someone) == number - 1
    assert scheduler.retire(1) is None
    assert scheduler.retire(0) is None
    assert scheduler.running == ()
