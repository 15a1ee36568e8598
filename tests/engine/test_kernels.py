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
EXACT = ("stored keys", "stored values", "norm", "norm of heads", "sum", "norm of sum", "gate")
SHARED_BYTES = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}
"""What one program may have of a multiprocessor's shared memory."""
# Bytes a lane may keep outside its registers: two or three that a compiler spills to fit one program more, which is
# nothing beside the keys they wait for, and what the exact sine needs for large numbers.
STACK_BYTES = {"attend_cached": 12, "snake": 32}
REGISTERS, LEAST_WARPS = 65_536, 12
"""What a multiprocessor has, and for how many warps they must do at once: some wait for memory while others work."""


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

    positions = some(64, dtype=torch.int64)
    launches.rms_norm(some(8, 1, 2_048), some(2_048), 1e-6)
    launches.rms_norm(some(8, 1, 24, 128), some(24, 128), 1e-6)
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
    step, many = (1, 3_904, positions[:1]), (1, 3_904, positions)
    for rows, (tokens, length, where), dtype in (
        *((1, step, torch.bfloat16), (64, many, torch.bfloat16), (64, many, torch.float32)),
        (64, (2, 16, 0), torch.bfloat16),
    ):
        heads, width = some(rows, tokens, 32, 128, dtype=dtype), some(128, dtype=dtype)
        turn = some(3_904, 128, dtype=dtype) if tokens == 1 else some(1, tokens, 128, dtype=dtype)
        stored = some(64, 8, length, 128, dtype=dtype)
        launches.attention(heads, (width, width), (turn, turn), stored, stored, where, 1e-6)
    return noted


def resources(cubin: bytes, folder: Path) -> dict[str, int]:
    """What a lane takes of registers (REG) and of memory outside them (STACK, LOCAL, bytes), as the card's tool says.

    Registers that did not suffice show as STACK.
    """
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    tool = triton.knobs.nvidia.cuobjdump.path
    told = subprocess.run([tool, "-res-usage", str(path)], capture_output=True, text=True, timeout=60, check=True)
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", told.stdout)}


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
            taken = resources(compiled.asm["cubin"], tmp_path)
            assert taken["STACK"] <= STACK_BYTES.get(name, 0), f"{name} does without registers it needs: {taken}"
            assert taken["LOCAL"] == 0
            assert compiled.metadata.shared <= SHARED_BYTES[capability]
            assert REGISTERS // (taken["REG"] * 32) >= max(LEAST_WARPS, compiled.metadata.num_warps)
            made.setdefault(name, []).append(compiled.asm["ptx"])
    assert set(made) == set(KERNELS)
    assert len(made["attend_cached"]) == 4
    rounding = set(re.findall(r"cvt\.\S*bf16x?2?\.f32", "".join(ptx for each in made.values() for ptx in each)))
    assert rounding
    assert all(".rn." in name for name in rounding), "to the nearest, as torch rounds"
    assert "sin.approx" not in made["snake"][0], "a wave of large numbers needs the exact sine"
    wide = ("attend_cached", "gate_product", "snake")
    assert all("ld.global.v" in made[name][0] for name in wide), "what there is much of is read in wide words"
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
    assert splits_for(programs=64, length=3_904) == 8
    assert splits_for(programs=512, length=3_904) == 1
    assert splits_for(programs=8, length=16) == 1
