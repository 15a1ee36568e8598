"""How many launches a frame step of the released dimensions takes: what its speed at small batches hangs on.

Counted on tensors without memory: operations of torch that are no view and no allocation, and kernels of ours. Some of
torch's are several kernels on a card, none is less than one, so the counts are lower bounds.
"""

from collections.abc import Callable, Iterator
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
from tts_engine.networks.code_predictor import CodePredictor
from tts_engine.networks.codec_decoder import CodecDecoder, CodecTransformer
from tts_engine.networks.layers import rotary_table
from tts_engine.networks.talker import Talker
from tts_engine.slot_state import SlotState

CONFIG = EngineConfig(slots=8)
LAYERS = 28 + 15 * 5 + 8
"""Transformer layers in a chain: the talker's once, the code predictor's fifteen times, and the codec's."""
PRODUCTS = {"mm", "addmm", "convolution", "bias of a convolution"}
# A card's convolution leaves channels beside each other as it finds them; that of tensors without memory does not.
_NOT_ON_A_CARD = {"clone"}


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
        if not is_view and not name.startswith(("empty", "new_empty", "_unsafe_view", "promote_types")):
            self._note(name)
            if name == "convolution" and args[2] is not None:
                self._note("bias of a convolution")  # which the library adds apart
        return function(*args, **(kwargs or {}))

    def _note(self, name: str) -> None:
        if name not in _NOT_ON_A_CARD:
            self.count += 1
            self.names[name] = self.names.get(name, 0) + 1


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


def counted(step: FrameStep, counter: Counter) -> Counter:
    # Where gradients are merely off, operations arrive taken apart, casts among them.
    with torch.no_grad(), counter:
        step(CONFIG.slots, step.state.cache.length)
    return counter


def note_parts(monkeypatch: pytest.MonkeyPatch, launches: Callable[[], int]) -> dict[str, int]:
    """How many launches each part of a step takes, filled in while it runs."""
    parts: dict[str, int] = {}
    places = ((Talker, "step_on"), (CodePredictor, "follow"), (CodecDecoder, "sound"), (CodecTransformer, "__call__"))
    for owner, name in places:
        work = getattr(owner, name)

        def measured(*args: Any, _work: Any = work, _name: str = owner.__name__) -> Any:
            before = launches()
            made = _work(*args)
            parts[_name] = launches() - before
            return made

        monkeypatch.setattr(owner, name, measured)
    return parts


@pytest.mark.usefixtures("_with_kernels")
def test_a_step_is_its_products_and_our_kernels_and_hardly_anything_else(
    step: FrameStep, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    noted, counter = note_launches(monkeypatch), Counter()

    def ours() -> dict[str, int]:
        return {name: len(launch.calls) for name, launch in noted.items()}

    parts = note_parts(monkeypatch, lambda: counter.count + sum(ours().values()))
    counted(step, counter)
    total, products = counter.count + sum(ours().values()), sum(counter.names.get(name, 0) for name in PRODUCTS)
    figure(f"launches of a frame step, {step.model.size}", f"{total}, {products} of them products; parts {parts}")
    figure(f"kernels of a frame step, {step.model.size}", str(ours()))
    rest = {name: count for name, count in counter.names.items() if name not in PRODUCTS}
    assert rest == {"gelu": 2, "silu": 1, "add": 1, "copy_": 1}
    assert ours()["attend_cached"] == ours()["gate_product"] == LAYERS
    # Two norms a layer but the first of each stack and of each pass that the one before it has made.
    assert ours()["norm_rows"] == 2 * LAYERS + 1 + 1
    assert ours()["choose_codes"] == 16
    assert total <= 1_050


def test_without_kernels_a_step_takes_more_than_four_times_the_launches(step: FrameStep, figure: Figure) -> None:
    counter = Counter()
    with torch.inference_mode(), counter:  # attention stays one operation
        step(CONFIG.slots, step.state.cache.length)
    figure(f"launches of a frame step without kernels, {step.model.size}", str(counter.count))
    assert counter.count > 4 * 1_050
