"""benchmarks/gpu_card.py: what a card is tried with finds what is wrong, and goes on behind it.

On the CPU; what is only asked of a card is asked of a double of torch.cuda.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import gpu_basics, gpu_card, gpu_steps
from benchmarks.gpu_basics import Wrong
from benchmarks.gpu_card import Check
from tests.conftest import Demo, Figure
from tests.engine.cuda_double import install
from tts_engine import Acceleration, kernels
from tts_engine.landing import LandingRing
from tts_engine.networks import attending

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BASICS = ("described", "product", "convolution", "attention", "landing", "graphs", "one_kernel")


def test_all_that_needs_no_card_passes_without_one(tmp_path: Path, demo: Demo) -> None:
    assert gpu_card.main(["--device", "cpu", "--model", str(demo()), "--out", str(tmp_path)]) == 0
    kept = (tmp_path / "card.md").read_text()
    assert [line.split(" | ")[1] for line in kept.splitlines() if line.startswith("| ")][2:] == ["passed"] * 5
    assert "kernels none" in kept


def test_a_check_that_fails_is_told_and_the_others_are_tried(
    tmp_path: Path, demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(device: torch.device) -> str:
        raise RuntimeError("CUDA error: an illegal memory access\nwas encountered")

    monkeypatch.setattr(gpu_basics, "convolution", lost)
    assert gpu_card.main(["--device", "cpu", "--model", str(demo()), "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[2] == "failed; convolution; RuntimeError: CUDA error: an illegal memory access was encountered"
    assert [line.split(";")[0] for line in told] == ["passed", "passed", "failed", "passed", "passed"]


def test_kernels_may_be_used_once_all_that_is_tried_of_them_has_passed() -> None:
    planned = [Check("product", str), Check("one", str, of_kernels=True), Check("step", str, of_kernels=True)]
    rows = [gpu_card.tried(check) for check in planned]
    assert [gpu_card.results(CPU, planned, rows[:n]).settings["kernels"] for n in range(4)] == ["off"] * 3 + ["on"]
    assert gpu_card.results(CPU, planned, [*rows[:2], {**rows[2], "outcome": "failed"}]).settings["kernels"] == "off"


def test_numbers_that_are_wrong_are_no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    right = attending.attend

    def sees_one_key_less(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        return right(query, keys, values, mask if query.dtype == torch.float64 else mask.roll(-1, -1))

    monkeypatch.setattr(gpu_basics, "attend", sees_one_key_less)
    with pytest.raises(Wrong, match="is rounding"):
        gpu_basics.attention(CPU)


def test_recordings_and_the_ring_pass_over_a_double_and_one_that_is_stale_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    double = install(monkeypatch)
    assert gpu_basics.graphs(CPU) == "sizes 1, 2, 4, 8"
    assert gpu_basics.landing(CPU) == "40 sheets in their order"
    monkeypatch.setattr(type(double.graphs[0]), "replay", lambda graph: None)
    with pytest.raises(Wrong, match="a replay of 2 rows made"):
        gpu_basics.graphs(CPU)
    send = LandingRing.send
    monkeypatch.setattr(LandingRing, "send", lambda ring, berth, sheet: send(ring, berth, sheet.clamp(max=30)))
    with pytest.raises(Wrong, match="sheets came as"):
        gpu_basics.landing(CPU)


def test_a_step_that_says_something_else_with_kernels_is_found(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = gpu_steps.Compared(CPU, demo())
    monkeypatch.setattr(gpu_steps.Acceleration, "choose", lambda *_: None)
    with pytest.raises(Wrong, match="nothing to compare"):
        compared.by_kernels()
    compared.plain()
    assert compared.by_kernels() == "0 of 8 rows differ in the first frame, 0 in all"
    assert compared._said is not None
    compared._said[0, :2] += 1
    with pytest.raises(Wrong, match="in the first frame 2 of 8 rows"):
        compared.by_kernels()
    assert kernels.chosen() is None


@pytest.mark.gpu
@pytest.mark.parametrize("name", BASICS)
def test_a_card_does_what_the_engine_stands_on(name: str, figure: Figure) -> None:
    try:
        figure(f"the card's {name}", getattr(gpu_basics, name)(GPU))
    finally:
        Acceleration("off", "off").choose(CPU, torch.float32)
