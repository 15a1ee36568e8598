"""How many launches a frame step of the released dimensions takes: what its speed at small batches hangs on.

Counted on tensors without memory: operations of torch that are no view and no allocation, and kernels of ours. Some of
torch's are several kernels on a card, none is less than one, so the counts are lower bounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import Figure
from tests.engine.launch_notes import note_launches
from tests.engine.released import META, Released
from tts_engine import EngineConfig, kernels
from tts_engine.frame_step import FrameStep
from tts_engine.networks.layers import rotary_table
from tts_engine.slot_state import SlotState

CONFIG = EngineConfig(slots=8)
LAYERS = 28 + 15 * 5
"""Transformer layers in a chain: the talker's once, the code predictor's fifteen times."""


@dataclass
class Counter(TorchDispatchMode):
    """Counts operations that compute."""

    count: int = 0
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        returned = function._schema.returns
        is_view = bool(returned) and all(r.alias_info is not None and not r.alias_info.is_write for r in returned)
        if not is_view and not name.startswith(("empty", "new_empty", "_unsafe_view")):
            self.count += 1
            self.names[name] = self.names.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module", params=["0b6", "1b7"])
def step(request: pytest.FixtureRequest) -> FrameStep:
    released = Released(request.param)
    state = SlotState.allocate(released.model, CONFIG, released.networks.codec, META, torch.bfloat16)
    talker = released.model.talker
    rotary = rotary_table(state.cache.length, talker.head_dim, talker.rope_theta, META, torch.bfloat16)
    return FrameStep(released.networks, released.model, state, rotary)


@pytest.fixture
def _with_kernels() -> Iterator[None]:
    kernels.choose(on=True)
    yield
    kernels.choose(on=False)


def counted(step: FrameStep) -> Counter:
    counter = Counter()
    with torch.inference_mode(), counter:
        step(CONFIG.slots, step.state.cache.length)
    return counter


@pytest.mark.usefixtures("_with_kernels")
def test_kernels_take_two_thirds_of_the_launches_away(
    step: FrameStep, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    noted = note_launches(monkeypatch)
    with_kernels = counted(step)
    ours = {name: len(launch.calls) for name, launch in noted.items()}
    kernels.choose(on=False)
    without = counted(step).count
    total = with_kernels.count + sum(ours.values())
    size = step.model.size
    figure(f"launches of a frame step, {size}", f"{total} with kernels ({ours}), {without} without")
    assert ours["attend_cached"] == LAYERS
    assert ours["choose_codes"] == 16
    assert ours["uniform_rows"] == 1
    assert total < without / 3
