"""benchmarks/parts.py: what is timed as the parts of a step is the step, no launch left out and none counted twice.

In the released dimensions, on tensors without memory.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from benchmarks.frame_step import Place
from benchmarks.parts import PARTS, Parts
from tests.conftest import Demo
from tests.engine.launch_notes import note_launches
from tests.engine.released import META, Released
from tests.engine.test_launch_count import Counter as Operations
from tts_engine import EngineConfig, kernels
from tts_engine.checkpoint import Checkpoint
from tts_engine.frame_step import FrameStep
from tts_engine.networks.layers import rotary_table
from tts_engine.slot_state import SlotState

ROWS, CONTEXT = 8, 3_903


@pytest.fixture
def _with_kernels() -> Iterator[None]:
    kernels.choose(on=True)
    yield
    kernels.choose(on=False)


def frame_step(released: Released) -> FrameStep:
    config = EngineConfig(slots=ROWS)
    state = SlotState.allocate(released.model, config, released.networks.codec, META, torch.bfloat16)
    talker = released.model.talker
    rotary = rotary_table(state.cache.length, talker.head_dim, talker.rope_theta, META, torch.bfloat16)
    return FrameStep(released.networks, released.model, state, rotary)


@pytest.mark.usefixtures("_with_kernels")
@pytest.mark.parametrize("size", ["0b6", "1b7"])
def test_with_kernels_the_parts_launch_together_what_a_step_launches(
    size: str, demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, noted = Released(size), note_launches(monkeypatch)
    files = replace(Checkpoint.read(demo()), model=released.model)
    step = frame_step(released)
    parts = Parts(Place(files, released.networks, META, torch.bfloat16, ROWS, CONTEXT, 8), CONTEXT)

    def launches(work: Callable[[], object]) -> Counter[str]:
        operations = Operations()
        with torch.no_grad(), operations:
            work()
        ours = {name: len(launch.calls) for name, launch in noted.items()}
        for launch in noted.values():
            launch.calls.clear()
        return Counter(ours) + Counter(operations.names)

    whole = launches(lambda: step(ROWS, step.state.cache.length))
    each = {part: launches(lambda part=part: parts.run(part, ROWS)) for part in PARTS}  # type: ignore[misc]
    # What a first choice leaves for the second pass is zeroed where the passes are timed without choices.
    assert each["predictor"].pop("new_zeros") == 1
    assert sum(each.values(), Counter()) == whole
    assert each["sampling"] == {"uniform_rows": 1, "choose_codes": 16}
