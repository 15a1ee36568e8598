"""Slots from memory: what one takes, how many fit a card, and what is said when they do not."""

import logging
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import Demo, Figure
from tests.engine.released import Released
from tts_engine import EngineConfig, LoadError
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.memory import GIB, MIB, Budget, SlotMemory, fit_slots, in_words, set_apart, slot_memory
from tts_engine.sizing import with_slots
from tts_engine.slot_state import SlotState

CPU = torch.device("cpu")
# What a driver and a process take of a card before anything is loaded.
CONTEXT = GIB // 2
SHIPPED = EngineConfig()


def sizes_of(value: Any) -> int:
    """Bytes of all tensors in a dataclass, each storage once."""
    storages: dict[int, int] = {}

    def walk(part: Any) -> None:
        if isinstance(part, Tensor):
            storages[id(part.untyped_storage())] = part.untyped_storage().nbytes()
        elif isinstance(part, list | tuple):
            for inner in part:
                walk(inner)
        elif is_dataclass(part):
            for field in fields(part):
                walk(getattr(part, field.name))
        elif hasattr(part, "__dict__"):
            walk(list(vars(part).values()))

    walk(value)
    return sum(storages.values())


class Card(Released):
    """A released checkpoint beside a card's memory."""

    def __init__(self, size: str, model_type: str) -> None:
        super().__init__(size, model_type)
        self.weights = sizes_of(self.networks) + (GIB // 4 if model_type == "base" else 0)

    def slot(self, config: EngineConfig = SHIPPED) -> SlotMemory:
        codec = self.networks.codec.slot_bytes(frames_per_call=1)
        return slot_memory(self.model, config, codec=codec, width=2)

    def budget(self, card: int, config: EngineConfig = SHIPPED) -> Budget:
        return Budget(card * GIB - CONTEXT - self.weights, set_apart(self.model, config, width=2))


@pytest.fixture(scope="module", params=["0b6-base", "1b7-base", "0b6-custom_voice", "1b7-custom_voice"])
def released(request: pytest.FixtureRequest) -> Card:
    return Card(*request.param.split("-"))


@pytest.mark.parametrize(("card", "least"), [(24, 25), (48, 80), (80, 150), (141, 256)])
def test_a_card_holds_as_many_slots_as_it_should(released: Card, card: int, least: int, figure: Figure) -> None:
    slots = fit_slots(SHIPPED, released.slot(), released.budget(card))
    figure(f"slots of {released.model.size} {released.model.type} on {card} GiB", slots)
    assert least <= slots <= SHIPPED.max_slots
    taken = CONTEXT + released.weights + slots * released.slot().total + released.budget(card).apart
    assert taken <= card * GIB


def test_a_position_of_the_talker_takes_what_it_is_known_to_take(released: Card) -> None:
    slot, config = released.slot(), replace(SHIPPED, max_frames=SHIPPED.max_frames + 64)
    assert released.slot(config).keys - slot.keys == 64 * 112 * 1_024
    assert slot.frame_keys == 320 * 1_024
    assert 4.9 * MIB < slot.codec < 5.1 * MIB
    assert slot.total > 0.9 * slot.keys


@pytest.mark.parametrize("size", ["0b6", "1b7"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_slot_takes_what_was_reckoned(demo: Demo, size: str, dtype: torch.dtype) -> None:
    files = Checkpoint.read(demo(size=size))
    networks = load_networks(files, CPU, dtype)

    def state(slots: int) -> int:
        config = replace(SHIPPED, slots=slots, max_frames=40)
        return sizes_of(SlotState.allocate(files.model, config, networks.codec, CPU, dtype))

    config = replace(SHIPPED, max_frames=40)
    codec = networks.codec.slot_bytes(frames_per_call=1)
    slot = slot_memory(files.model, config, codec=codec, width=dtype.itemsize)
    small = 2_048  # positions, seeds and sampling values
    # What is reckoned is a GPU's; a CPU keeps the keys of a frame in float32.
    wider = slot.frame_keys if dtype == torch.bfloat16 else 0
    assert 0 <= state(3) - state(2) - (slot.total - slot.working) - wider < small


ROOM = SlotMemory(keys=400 * MIB, frame_keys=0, codec=5 * MIB, text=MIB, sampling=0, working=6 * MIB)
BUDGET = Budget(free=10 * GIB, apart=2 * GIB)


def test_slots_that_are_asked_for_are_given_when_they_fit() -> None:
    assert fit_slots(EngineConfig(slots=18), ROOM, BUDGET) == 18
    assert fit_slots(EngineConfig(slots=0), ROOM, BUDGET) == 18
    assert fit_slots(EngineConfig(slots=0, max_slots=7), ROOM, BUDGET) == 7


def test_slots_that_do_not_fit_are_refused_with_need_room_and_the_most() -> None:
    with pytest.raises(LoadError) as caught:
        fit_slots(EngineConfig(slots=19), ROOM, BUDGET)
    assert str(caught.value).startswith(
        "19 slots need 7.64 GiB, and 7.50 GiB are left for slots of 10.00 GiB free; the most that fit are 18."
    )


@pytest.mark.parametrize("slots", [0, 1])
def test_a_card_that_holds_no_slot_is_refused(slots: int) -> None:
    with pytest.raises(LoadError, match=r"1 slots need .* and 0.00 GiB are left .* the most that fit are 0"):
        fit_slots(EngineConfig(slots=slots), ROOM, Budget(free=2 * GIB, apart=3 * GIB))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (EngineConfig(slots=5), "5 slots, as asked for: "),
        (EngineConfig(), "18 slots, as many as fit: "),
        (EngineConfig(max_slots=7), "7 slots, the most allowed: "),
    ],
)
def test_the_log_says_what_was_decided_and_what_more_would_need(config: EngineConfig, why: str) -> None:
    line = in_words(config, ROOM, BUDGET, fit_slots(config, ROOM, BUDGET))
    assert line.startswith(why + "10.00 GiB free, 2.00 GiB set apart, 412 MiB a slot (400 of them keys and values); ")


def test_more_slots_than_there_are_would_need_so_much_more() -> None:
    assert "36 slots would need 6.98 GiB more" in in_words(EngineConfig(), ROOM, BUDGET, 18)
    assert "4 slots would need 0.00 GiB more" in in_words(EngineConfig(slots=2), ROOM, BUDGET, 2)


@pytest.mark.parametrize(("given", "most", "expected"), [(0, 256, 16), (0, 4, 4), (3, 256, 3), (300, 256, 300)])
def test_a_cpu_has_the_slots_asked_for_or_sixteen(
    demo: Demo, given: int, most: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    files = Checkpoint.read(demo())
    codec = load_networks(files, CPU, torch.float32).codec
    config = EngineConfig(slots=given, max_slots=most)
    with caplog.at_level(logging.INFO):
        assert with_slots(config, files.model, codec, CPU, torch.float32) == replace(config, slots=expected)
