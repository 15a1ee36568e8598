"""Run by test_kernels.py in a process of its own: kernels against the operations they stand for, on a CPU.

Triton's interpreter must be chosen before triton is imported, and torch's side must not use kernels; so one process is
for this alone. Prints the largest difference of each check; the test judges them.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

from tests.engine.kernel_cases import worst_of
from tests.engine.kernel_draws import off
from tests.engine.kernel_step_cases import spoken
from tests.engine.released import Released
from tts_engine import EngineConfig, kernels
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.prompt import Prompt
from tts_engine.runner import Runner
from tts_engine.sampling import SamplingRows
from tts_engine.sampling_values import Sampling

CPU = torch.device("cpu")
EXAMPLES = 6
CONFIG = EngineConfig(slots=2, max_text_tokens=20, segment_tokens=20, max_instruct_tokens=8, max_frames=20)
SAMPLING = Sampling(0.9, 50, 1.0, 1.05, 0.9, 50, 1.0, seed=0)


def round_as_a_gpu_does() -> None:
    """Let the interpreter round to the nearest bfloat16: it cuts, where the compiled kernels say cvt.rn."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    cut = InterpreterBuilder.create_fp_trunc

    def to_nearest(builder: InterpreterBuilder, source: Any, kind: Any) -> Any:
        if kind.scalar.name != "bf16":
            return cut(builder, source, kind)
        bits = source.data.astype(np.float32).view(np.uint32)
        return TensorHandle(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16), kind.scalar)

    InterpreterBuilder.create_fp_trunc = to_nearest


def take_bounds_that_are_arrays() -> None:
    """Let the interpreter of triton 3.6 take a loop's bounds from arrays of one, of which numpy 2.5 makes no number."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


def frame_step(folder: Path) -> dict[str, float]:
    """Whole steps of a tiny checkpoint, of one row and of two, one of them held: codes, sound and state."""
    files = Checkpoint.read(folder)
    networks = load_networks(files, CPU, torch.float32)
    runners = [Runner(networks, files.model, CONFIG, CPU, torch.float32) for _ in range(2)]
    prompt = Prompt(tuple(range(5, 16)), (files.model.ids.codec_pad,) * 11, 8, (7, 8), True)
    found: dict[str, float] = {}
    for number, (rows, held) in enumerate(((1, ()), (2, (0,)))):
        frames = []
        for runner, on in zip(runners, (True, False), strict=True):
            kernels.choose(on=on)
            runner.enter(rows - 1, runner.prepare(prompt, None), replace(SAMPLING, seed=number))
            frames.append(runner.launch(rows, 16, held).land())
        ours, theirs = frames
        found["codes of a step"] = max(found.get("codes of a step", 0.0), float((ours.codes != theirs.codes).any()))
        gap = np.abs(ours.pcm.astype(int) - theirs.pcm.astype(int)).max()
        found["steps of 16 bits in a step's sound"] = max(found.get("steps of 16 bits in a step's sound", 0.0), gap)
    one, other = (runner.state for runner in runners)
    for name, ours, theirs in (
        ("hidden states", one.hidden[:2], other.hidden[:2]),
        ("codec's tails", one.codec.arena[:2], other.codec.arena[:2]),
        ("codec's keys", one.codec.keys, other.codec.keys),
        ("counts of a step", *(torch.cat((s.positions[:2], s.frames[:2], s.codec.frames[:2])) for s in (one, other))),
        ("codes seen", one.sampling.seen[:2].long(), other.sampling.seen[:2].long()),
    ):
        found[name] = off(ours, theirs)
    for number in range(3):
        for name, value in spoken(one.sampling, files.model.vocab, number).items():
            found[name] = max(found.get(name, 0.0), value)
    return {name: float(value) for name, value in found.items()}


def first_choices() -> dict[str, float]:
    """First codes among the talker's released ids, by rules that draw, that cut and that take the best."""
    model = Released("0b6").model
    rules = SamplingRows(4, model, CPU)
    for slot, temperature in enumerate((0.9, 0.0, 1.3, 0.7)):
        drawn = replace(SAMPLING, temperature=temperature, top_k=50 * (slot % 3), top_p=1.0 - 0.1 * slot)
        rules.admit(slot, drawn)
    found: dict[str, float] = {}
    for number in range(4):
        for name, value in spoken(rules, model.vocab, number).items():
            found[name] = max(found.get(name, 0.0), value)
    return {"ids": float(model.vocab), **found}


def main(folders: list[str]) -> None:
    """folders: checkpoints to make whole steps of."""
    torch.set_num_threads(1)
    round_as_a_gpu_does()
    take_bounds_that_are_arrays()
    dtypes = (torch.float32, torch.bfloat16)
    worst = {str(dtype).removeprefix("torch."): worst_of(dtype, EXAMPLES) for dtype in dtypes}
    worst["released"] = first_choices()
    for folder in folders:
        worst[folder] = frame_step(Path(folder))
    json.dump(worst, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
