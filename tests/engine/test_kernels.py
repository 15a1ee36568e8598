"""The kernels: equal to the operations they stand for, and compiled for every card this is meant for, without a card.

What they compute is tried in triton's interpreter, in a process of its own. That they compile is tried with the very
arguments launches.py gives them. On a card, test_gpu.py compares them again.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import triton
from torch import Tensor

from tests.conftest import REPOSITORY, Demo, Figure
from tests.engine.launch_notes import KERNELS, Launch, note_launches
from tts_engine import kernels

PATHS = (REPOSITORY / "model_repository" / "qwen3_tts" / "1", REPOSITORY / "scripts", REPOSITORY)
EXACT = ("stored keys", "stored values", "norm", "sum", "norm of sum", "gate")


@pytest.fixture(scope="module")
def differences(demo: Demo) -> dict[str, dict[str, float]]:
    """The largest relative difference of each check in kernel_checks.py, by dtype or checkpoint."""
    folder = str(demo(size="1b7"))
    made = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kernel_checks.py")), folder],
        env={"PYTHONPATH": ":".join(map(str, PATHS)), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    found: dict[str, dict[str, float]] = json.loads(made.stdout)
    return {**found, "step": found[folder]}


def test_in_float32_a_kernel_is_what_it_stands_for_but_for_the_last_bits(
    differences: dict[str, dict[str, float]], figure: Figure
) -> None:
    found = differences["float32"]
    figure("kernels == operations, float32, largest relative difference", f"{max(found.values()):.1e}")
    assert max(found.values()) < 2e-6


def test_in_bfloat16_a_kernel_rounds_where_the_operations_round(differences: dict[str, dict[str, float]]) -> None:
    found = differences["bfloat16"]
    assert {name: found[name] for name in EXACT} == dict.fromkeys(EXACT, 0.0)
    assert found["attention"] < 2**-7, "sums in another order, then rounded once"


def test_random_numbers_and_choices_are_the_same(differences: dict[str, dict[str, float]]) -> None:
    assert differences["float32"]["uniforms"] == 0
    assert differences["float32"]["codes chosen"] == 0


def test_steps_made_with_kernels_say_what_steps_without_say(
    differences: dict[str, dict[str, float]], figure: Figure
) -> None:
    found = differences["step"]
    figure("steps with kernels == steps without, float32, hidden states", f"{found['hidden states']:.1e}")
    assert found["codes of a step"] == 0
    assert found["steps of 16 bits in a step's sound"] <= 1
    assert found["hidden states"] < 1e-4


def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Launch]:
    """What launches.py launches in a step of the released dimensions, for few rows and for many."""
    from tts_engine.kernels import launches

    noted = note_launches(monkeypatch)

    def some(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    width, positions = some(128), some(64, dtype=torch.int64)
    launches.rms_norm(some(8, 1, 2_048), some(2_048), 1e-6)
    launches.add_norm(some(8, 1, 1_024), some(8, 1, 1_024), some(1_024), 1e-6)
    launches.rms_norm(some(8, 1, 512, dtype=torch.float32), some(512, dtype=torch.float32), 1e-5)
    launches.gated(some(8, 1, 6_144))
    sound, channel = some(8, 1_920, 96, dtype=torch.float32), some(96, dtype=torch.float32)
    launches.snake_beta(sound, channel, channel)
    launches.uniforms(positions, positions, 16)
    rule, numbers = some(8, dtype=torch.float32), some(8, 16, dtype=torch.float32)[:, 3]
    for vocab in (2_048, 3_072):
        scores = some(8, vocab, dtype=torch.float32)
        launches.pick(scores, rule, positions[:8], rule, numbers)
    for rows, tokens, length, where in ((1, 1, 3_904, positions[:1]), (64, 1, 3_904, positions), (64, 2, 16, 0)):
        heads, shared = some(rows, tokens, 16, 128), some(rows, tokens, 8, 128)
        turn = some(rows if tokens == 1 else 1, tokens, 128)
        stored = some(64, 8, length, 128)
        launches.attention(heads, shared, shared, (width, width), (turn, turn), stored, stored, where, 1e-6)
    return noted


@pytest.mark.parametrize("capability", [80, 89, 90])
def test_every_kernel_compiles_for_a_card(
    capability: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, figure: Figure
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    made: dict[str, list[str]] = {}
    for name, launch in launched(monkeypatch).items():
        for source, options in launch.sources():
            compiled = triton.compile(source, target=target, options=options)
            assert len(compiled.asm["cubin"]) > 1_000
            made.setdefault(name, []).append(compiled.asm["ptx"])
    assert set(made) == set(KERNELS)
    assert len(made["attend_cached"]) == 3
    rounding = set(re.findall(r"cvt\.\S*bf16x?2?\.f32", "".join(ptx for each in made.values() for ptx in each)))
    assert rounding
    assert all(".rn." in name for name in rounding), "to the nearest, as torch rounds"
    assert "sin.approx" not in made["snake"][0], "a wave of large numbers needs the exact sine"
    assert "ld.global.v" in made["attend_cached"][0], "keys are read in wide words"
    figure(f"kernels compiled for sm_{capability}", sum(map(len, made.values())))


def test_kernels_are_off_until_they_are_chosen_and_may_be_turned_off_again() -> None:
    assert kernels.chosen() is None
    kernels.choose(on=True)
    try:
        chosen = kernels.chosen()
        assert chosen is not None
        assert chosen.FEW_TOKENS == 2
    finally:
        kernels.choose(on=False)
    assert kernels.chosen() is None


def test_keys_are_dealt_to_more_programs_when_there_are_few_rows_and_never_to_empty_ones() -> None:
    from tts_engine.kernels.launches import splits_for

    assert splits_for(programs=8, length=3_904) == 16
    assert splits_for(programs=64, length=3_904) == 4
    assert splits_for(programs=512, length=3_904) == 1
    assert splits_for(programs=8, length=16) == 1
