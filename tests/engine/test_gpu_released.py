"""On a card, in the released dimensions: kernels beside what they stand for, and the recorded step beside the step.

Random weights, drawn where they are used. The laws themselves stand in test_gpu.py; what only the real sizes show are
keys that are dealt to many programs, launches that fill a card, and choices among all ids.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.conftest import Figure
from tests.engine.released import Released
from tts_engine import Acceleration, EngineConfig
from tts_engine.landing import Flight
from tts_engine.prompt import Prompt
from tts_engine.runner import Runner
from tts_engine.sampling_values import Sampling

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda", 0)
CONFIG = EngineConfig(slots=64, max_text_tokens=40, segment_tokens=40, max_instruct_tokens=8, max_frames=60)
SAMPLING = Sampling(0.9, 50, 1.0, 1.05, 0.9, 50, 1.0, seed=0)
LONGEST = 3_904
"""Positions of a slot as a server has them."""


@pytest.fixture(autouse=True)
def _torchs_own_operations_again() -> Iterator[None]:
    yield
    Acceleration("off", "off").choose(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-6)])
def test_attention_over_a_whole_slot_is_what_it_stands_for_however_keys_are_dealt(
    dtype: torch.dtype, bound: float, figure: Figure
) -> None:
    from tests.engine.kernel_cases import SHAPES, attention_over  # here, for it brings triton
    from tts_engine.kernels.launches import splits_for

    Acceleration("off", "off").choose(GPU, dtype)
    worst: dict[str, float] = {}
    with torch.device(GPU):
        for rows in (1, 4, 8, 16, 32, 64):
            for name, value in attention_over(SHAPES[-1], dtype, LONGEST, rows, 0, random.Random(rows)).items():
                worst[name] = max(worst.get(name, 0.0), value)
    assert {splits_for(rows * 8, LONGEST) for rows in (1, 8, 16, 32, 64)} == {16, 8, 4, 2, 1}
    figure(f"attention over {LONGEST} positions on the card, {dtype}", f"{worst['attention']:.1e}")
    assert worst["stored values"] == 0
    assert max(worst.values()) <= bound, worst


def choices(vocab: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What is chosen by kernel and by operations from scores a third of which are equal to others."""
    from tts_engine.kernels import launches
    from tts_engine.sampling import pick

    scores = 3 * torch.randn(rows, vocab)
    scores[::3] = scores[::3].round()
    temperature, top_p = (
        torch.tensor([0.9, 0.0, 1.3, 0.6]).repeat(rows // 4),
        torch.tensor([1.0, 0.8]).repeat(rows // 2),
    )
    top_k = torch.tensor([50, 0, 1, 128, 200, 50, 50, 7]).repeat(rows // 8)
    numbers = torch.rand(rows, 16)[:, 3]
    return launches.pick(scores, temperature, top_k, top_p, numbers), pick(scores, (temperature, top_k, top_p), numbers)


@pytest.mark.parametrize("vocab", [2_048, 3_072])
def test_choices_among_all_ids_are_those_of_the_operations(vocab: int, figure: Figure) -> None:
    Acceleration("off", "off").choose(GPU, torch.float32)
    torch.manual_seed(0)
    with torch.device(GPU):
        ours, theirs = choices(vocab, rows=4_096)
    others = int((ours != theirs).sum())
    figure(f"of 4096 choices among {vocab} ids on the card, others than by operations", others)
    assert others <= 4, "a sum in another order may move a choice that was a near tie"


def filled(runner: Runner, released: Released, rows: int) -> None:
    """Enter rows 0 … rows-1, of 10 to 16 positions each."""
    pad = released.model.ids.codec_pad
    prompts = [
        Prompt(tuple(range(5, 15 + row % 7)), (pad,) * (10 + row % 7), 8, (7, 8, 9), True) for row in range(rows)
    ]
    for slot, read in enumerate(runner.prepare_many([(prompt, None) for prompt in prompts])):
        runner.enter(slot, read, replace(SAMPLING, seed=slot))


def codes_of(runner: Runner, released: Released, rows: int, frames: int) -> npt.NDArray[np.int64]:
    """Codes (frames, rows, 16) of rows that begin together, by the recorded step."""
    filled(runner, released, rows)
    return np.stack([runner.launch(rows, 16 + number, ()).land().codes for number in range(frames)])


def test_a_step_with_kernels_says_what_it_says_without(figure: Figure) -> None:
    """In float32, where a choice flips only at a near tie. After it a row goes its own way, so first frames count."""
    released = Released("0b6", device=GPU, dtype=torch.float32)
    said = []
    for word in ("on", "off"):
        Acceleration(word, "off").choose(GPU, torch.float32)
        runner = Runner(released.networks, released.model, CONFIG, GPU, torch.float32)
        said.append([codes_of(runner, released, rows, frames=2) for rows in (1, 8, 64)])
        del runner
    rows = sum(part.shape[1] for part in said[0])
    flipped = sum(int((one[0] != other[0]).any(1).sum()) for one, other in zip(*said, strict=True))
    figure("rows whose first frame kernels change, 0.6B, float32, on the card", f"{flipped} of {rows}")
    assert flipped <= 0.05 * rows


@pytest.mark.parametrize("size", ["0b6", "1b7"])
def test_a_recorded_step_is_the_step_in_the_precision_of_a_server(size: str, figure: Figure) -> None:
    """Up to 256 rows with kernels in bfloat16: the same launches, so the same numbers to the bit."""
    Acceleration("on", "on").choose(GPU, torch.bfloat16)
    released = Released(size, device=GPU)
    graphed, plain = (
        Runner(released.networks, released.model, replace(CONFIG, slots=256), GPU, torch.bfloat16) for _ in range(2)
    )
    differing = {}
    for rows in (1, 8, 64, 256):
        made = codes_of(graphed, released, rows, frames=3)
        filled(plain, released, rows)
        with torch.inference_mode(), plain._on_stream():
            plain.state.targets[:rows] = torch.arange(rows, device=GPU)
            anew = [Flight.of(plain.step(rows, plain.state.cache.length).cpu()).land().codes for _ in range(3)]
        differing[rows] = int((made != np.stack(anew)).any(2).sum())
        assert 0 <= made.min() <= made.max() < released.model.vocab
    figure(f"rows that differ recorded from computed, {size}, bfloat16, on the card", str(differing))
    assert not any(differing.values()), differing
