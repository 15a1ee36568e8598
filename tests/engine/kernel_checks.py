"""Run by test_kernels.py in a process of its own: kernels against the operations they stand for, on a CPU.

Triton's interpreter must be chosen before triton is imported, and torch's side must not use kernels; so one process is
for this alone. Prints the largest difference of each check; the test judges them.
"""

import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tts_engine import EngineConfig, kernels
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.kernels import launches
from tts_engine.kv_cache import KeyValueCache
from tts_engine.model_config import TransformerConfig
from tts_engine.networks.layers import Attention, add_norm, rms_norm, rotary_table
from tts_engine.networks.linear import Linear
from tts_engine.prompt import Prompt
from tts_engine.runner import Runner
from tts_engine.sampling import uniforms
from tts_engine.sampling_values import Sampling

CPU = torch.device("cpu")
EXAMPLES = 8
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


@dataclass(frozen=True)
class Shapes:
    """Dimensions of one stack's attention: tiny, odd, and the released."""

    heads: int
    shared: int
    width: int


SHAPES = (Shapes(4, 2, 32), Shapes(4, 2, 24), Shapes(3, 3, 16), Shapes(6, 2, 40), Shapes(16, 8, 128))


def off(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    ours, theirs = ours.double(), theirs.double()
    assert torch.isfinite(ours).all()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype)


def attention_of(shapes: Shapes, dtype: torch.dtype, hidden: int) -> tuple[Attention, TransformerConfig]:
    config = TransformerConfig(hidden, 1, 2, shapes.heads, shapes.shared, shapes.width, 1e-6, 1e4)
    wide, narrow = shapes.heads * shapes.width, shapes.shared * shapes.width
    tensors = [draw(rows, hidden, dtype=dtype) / hidden**0.5 for rows in (wide, narrow, narrow)]
    norms = [1 + draw(shapes.width, dtype=dtype) / 4 for _ in range(2)]
    output = Linear.of(draw(hidden, wide, dtype=dtype))
    return Attention(Linear.stacked(tensors), output, *norms), config


def attention(dtype: torch.dtype, number: int) -> dict[str, float]:
    """A step at random positions, or a span of one or two tokens, over a cache that holds other numbers."""
    choose = random.Random(number)
    shapes = SHAPES[number % len(SHAPES)]
    length, slots, rows = choose.choice((3, 60, 130, 300)), 4, choose.randint(1, 3)
    layer, hidden = choose.randint(0, 1), 48
    block, config = attention_of(shapes, dtype, hidden)
    caches = [KeyValueCache(layers=2, slots=slots, kv_heads=shapes.shared, length=length, head_dim=shapes.width,
                            device=CPU, dtype=dtype) for _ in range(2)]  # fmt: skip
    for name in ("keys", "values"):
        getattr(caches[0], name).normal_()
        getattr(caches[1], name).copy_(getattr(caches[0], name))
    table = rotary_table(length, shapes.width, 1e4, CPU, dtype)
    if number % 3:
        positions = torch.tensor([choose.randrange(length) for _ in range(rows)])
        views = [cache.step(positions, length) for cache in caches]
        tokens, rotary = 1, table.at(positions[:, None])
        mask = (torch.arange(length) <= positions[:, None])[:, None, None]
    else:
        tokens = choose.randint(1, 2)
        start = choose.randint(0, length - tokens)
        views = [cache.span(slice(0, rows), start) for cache in caches]
        rotary = table.span(start, start + tokens)
        mask = torch.ones(tokens, start + tokens, dtype=torch.bool).tril(start)
    x = draw(rows, tokens, hidden, dtype=dtype)
    kernels.choose(on=True)
    ours = block.over(x, config, rotary, views[0], layer, None)
    kernels.choose(on=False)
    theirs = block.over(x, config, rotary, views[1], layer, mask)
    return {
        "attention": off(ours, theirs),
        "stored keys": off(caches[0].keys, caches[1].keys),
        "stored values": off(caches[0].values, caches[1].values),
    }


def element_wise(dtype: torch.dtype, number: int) -> dict[str, float]:
    choose = random.Random(number)
    width = choose.choice((1, 7, 64, 96, 1_024, 2_048))
    shape = (choose.randint(1, 3), choose.randint(1, 4), width)
    x, added, weight = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype), draw(width, dtype=dtype)
    total, normed = launches.add_norm(x, added, weight, 1e-6)
    expected = add_norm(x, added, weight, 1e-6)
    channels, length = choose.randint(1, 9), choose.choice((1, 5, 333))
    sound, alpha, root = 3 * draw(2, length, channels), draw(channels).exp(), draw(channels).exp()
    seeds = torch.tensor([choose.randrange(-(2**63), 2**63) for _ in range(5)])
    frames = torch.tensor([choose.randrange(3_000) for _ in range(5)])
    return {
        "norm": off(launches.rms_norm(x, weight, 1e-6), rms_norm(x, weight, 1e-6)),
        "sum": off(total, expected[0]),
        "norm of sum": off(normed, expected[1]),
        "gate": off(launches.gated(torch.cat((x, added), -1)), F.silu(x) * added),
        "snake": off(launches.snake_beta(sound, alpha, root), sound + (root * torch.sin(sound * alpha)).square()),
        "uniforms": float(not torch.equal(launches.uniforms(seeds, frames, 16), uniforms(seeds, frames))),
    }


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
    hidden = [runner.state.hidden[:2] for runner in runners]
    return {name: float(value) for name, value in found.items()} | {"hidden states": off(*hidden)}


def checks(dtype: torch.dtype) -> Iterator[dict[str, float]]:
    for number in range(EXAMPLES):
        yield attention(dtype, number)
        yield element_wise(dtype, number)


def main(folders: list[str]) -> None:
    """folders: checkpoints to make whole steps of."""
    torch.set_num_threads(1)
    round_as_a_gpu_does()
    worst: dict[str, dict[str, float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        found = worst.setdefault(str(dtype).removeprefix("torch."), {})
        for check in checks(dtype):
            for name, value in check.items():
                found[name] = max(found.get(name, 0.0), value)
    for folder in folders:
        worst[folder] = frame_step(Path(folder))
    json.dump(worst, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
