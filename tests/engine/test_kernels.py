"""The kernels: equal to the operations they stand for, and compiled for every card this is meant for, without a card.

What they compute is tried in triton's interpreter, in a process of its own. That they compile is tried with the very
arguments launches.py gives them. On a card, test_gpu.py compares them again.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import triton
from torch import Tensor

from tests.conftest import REPOSITORY, Demo, Figure
from tests.engine.launch_notes import KERNELS, Launch, note_launches
from tts_engine import kernels

PATHS = (REPOSITORY / "model_repository" / "qwen3_tts" / "1", REPOSITORY / "scripts", REPOSITORY)
EXACT = (
    *("stored keys", "stored values", "norm", "norm of heads", "sum", "norm of sum", "gate"),
    *("norm of inputs", "next text", "sheet", "advanced"),
)
SHARED_BYTES = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}
"""What one program may have of a multiprocessor's shared memory."""
# Bytes a lane may keep outside its registers: what the exact sine needs for large numbers, and two that are spilled to
# fit one program more; two of attention over the two tokens that begin a frame.
STACK_BYTES = {"snake": 32, "join_tail": 40, "turn_rows": 32, "attend_cached": 8}
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
    assert found["next inputs"] < 2**-7, "likewise"


def test_random_numbers_and_choices_are_the_same(differences: dict[str, dict[str, float]]) -> None:
    assert differences["float32"]["uniforms"] == 0
    assert differences["float32"]["codes chosen"] == 0
    assert differences["step"]["first codes"] == differences["step"]["seen"] == 0
    assert differences["step"]["entered"] == 0, "a row of a table as it stands"
    released = differences["released"]
    assert released["ids"] == 3_072
    assert released["first codes"] == released["seen"] == released["entered"] == 0


def test_steps_made_with_kernels_say_what_steps_without_say(
    differences: dict[str, dict[str, float]], figure: Figure
) -> None:
    found = differences["step"]
    figure("steps with kernels == steps without, float32, hidden states", f"{found['hidden states']:.1e}")
    assert found["codes of a step"] == 0
    assert found["steps of 16 bits in a step's sound"] <= 1
    assert found["hidden states"] < 1e-4
    assert max(found["codec's tails"], found["codec's keys"]) < 1e-5
    assert found["counts of a step"] == found["codes seen"] == 0


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
    rows = positions[:8]
    launch_the_vocoder(some)
    launches.uniforms(positions, positions, 16)
    launch_the_choices(some)
    launches.summed(some(8, 16, dtype=torch.int64), some(16, 2_048, 512, dtype=torch.float32))
    tables = some(151_936, 2_048), some(15, 2_048, 2_048)
    launches.next_text(some(8, 100, dtype=torch.int64), rows, rows, tables[0])
    launches.next_inputs(some(8, 16, dtype=torch.int64), *tables, some(8, 2_048), some(2_048), 1e-6)
    launches.advance(rows, positions, positions, 1, some(8, 2_048), some(65, 2_048))
    launches.sheet(some(8, 1_920, dtype=torch.float32), some(8, 16, dtype=torch.int64), 2_150, 32_767)
    step, many = (1, 3_904, positions[:1]), (1, 3_904, positions)
    for rows, (tokens, length, where), dtype in (
        *((1, step, torch.bfloat16), (64, many, torch.bfloat16), (64, many, torch.float32)),
        *((rows, (1, 3_904, positions[:rows]), torch.bfloat16) for rows in (8, 16, 32)),  # all the ways keys are dealt
        (64, (2, 16, 0), torch.bfloat16),
    ):
        heads, width = some(rows, tokens, 32, 128, dtype=dtype), some(128, dtype=dtype)
        turn = some(3_904, 128, dtype=dtype) if tokens == 1 else some(1, tokens, 128, dtype=dtype)
        stored = some(64, 8, length, 128, dtype=dtype)
        launches.attention(heads, (width, width), (turn, turn), stored, stored, where, 1e-6)
    turn, stored = some(8, 1, 64, dtype=torch.float32), some(64, 16, 72, 64, dtype=torch.float32)
    heads = some(8, 1, 48, 64, dtype=torch.float32)
    launches.attention(heads, None, (turn, turn), stored, stored, rows, 1e-5, ring=True)
    return noted


def launch_the_vocoder(some: Callable[..., Tensor]) -> None:
    from tts_engine.kernels import launches

    for channels, length, keep in ((96, 1_920, 54), (768, 32, 54), (512, 1, 2)):
        sound, channel = (some(*shape, dtype=torch.float32) for shape in ((8, length, channels), (channels,)))
        tail, rows = some(65, keep, channels, dtype=torch.float32), some(8, dtype=torch.int64)
        launches.snake_beta(sound, channel, channel, bias=channel)
        launches.joined(sound, tail, rows, added=sound, wave=(channel, channel))
        launches.joined(sound, tail, rows)
    launches.overlapped(some(8, 160, 1_536, dtype=torch.float32), some(65, 768, dtype=torch.float32), rows)
    channel, tail = some(1_024, dtype=torch.float32), some(65, 6, 1_024, dtype=torch.float32)
    weight, sound = some(7, 1_024, dtype=torch.float32), some(8, 4, 1_024, dtype=torch.float32)
    launches.depthwise_normed(sound, weight, channel, (channel, channel), tail, rows, 1e-6)
    launches.turns(rows, some(32, dtype=torch.float32), torch.float32)


def launch_the_choices(some: Callable[..., Tensor]) -> None:
    from tts_engine.kernels import launches
    from tts_engine.kernels.arguments import Entry, SpokenRules

    rows, rule = some(8, dtype=torch.int64), some(8, dtype=torch.float32)
    numbers, codes = some(8, 16, dtype=torch.float32)[:, 3], some(8, 16, dtype=torch.int64)[:, 3]
    spoken = SpokenRules(rule, some(9, 3_072, dtype=torch.bool), rows, rows, 1_024, 2_150, 2)
    first = Entry(some(2_048, 1_024), some(8, 2, 1_024)[:, 1])
    launches.pick(some(8, 3_072), rule, rows, rule, numbers, codes=codes, spoken=spoken, entry=first)
    then = Entry(some(2_048, 1_024), some(8, 1_024), some(1_024), some(8, 1_024), 1e-6)
    launches.pick(some(8, 2_048), rule, rows, rule, numbers, codes=codes, entry=then)


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
    assert len(made["attend_cached"]) == 8
    ahead = re.findall(r"cp\.async\.cg\.shared\.global .*, 0x10,", made["attend_cached"][0])
    assert ahead, "the next keys are asked for while these are looked at, 16 bytes at a time"
    rounding = set(re.findall(r"cvt\.\S*bf16x?2?\.f32", "".join(ptx for each in made.values() for ptx in each)))
    assert rounding
    assert all(".rn." in name for name in rounding), "to the nearest, as torch rounds"
    assert "sin.approx" not in made["snake"][0], "a wave of large numbers needs the exact sine"
    wide = ("gate_product", "snake", "join_tail", "overlap_halves", "depthwise_norm", "sum_codes")
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
