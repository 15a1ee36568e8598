"""Kernels against the operations they stand for, on random shapes: each case gives its largest differences.

Works on torch's default device, so that the same cases are tried in triton's interpreter and on a card.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from tests.engine.kernel_draws import draw, off
from tests.engine.kernel_step_cases import bookkeeping, layers, ring
from tts_engine import kernels
from tts_engine.kernels import launches
from tts_engine.kv_cache import KeyValueCache
from tts_engine.model_config import TransformerConfig
from tts_engine.networks.layers import Attention, add_norm, rms_norm, rotary_table
from tts_engine.networks.linear import Linear
from tts_engine.sampling import pick, uniforms


@dataclass(frozen=True)
class Shapes:
    """Dimensions of one stack's attention: tiny, odd, and the released."""

    heads: int
    shared: int
    width: int


SHAPES = (Shapes(4, 2, 32), Shapes(4, 2, 24), Shapes(3, 3, 16), Shapes(6, 2, 40), Shapes(16, 8, 128))


def attention_of(shapes: Shapes, dtype: torch.dtype, hidden: int) -> tuple[Attention, TransformerConfig]:
    config = TransformerConfig(hidden, 1, 2, shapes.heads, shapes.shared, shapes.width, 1e-6, 1e4)
    wide, narrow = shapes.heads * shapes.width, shapes.shared * shapes.width
    tensors = [draw(rows, hidden, dtype=dtype) / hidden**0.5 for rows in (wide, narrow, narrow)]
    norms = [1 + draw(shapes.width, dtype=dtype) / 4 for _ in range(2)]
    output = Linear.of(draw(hidden, wide, dtype=dtype))
    each = [norm.expand(heads, -1) for norm, heads in zip(norms, (config.heads, config.kv_heads), strict=True)]
    return Attention(Linear.stacked(tensors), output, *norms, torch.cat(each)), config


def attention(dtype: torch.dtype, number: int) -> dict[str, float]:
    """A step at random positions, or a span of one or two tokens, over a cache that holds other numbers."""
    choose = random.Random(number)
    length, rows = choose.choice((3, 60, 130, 300)), choose.randint(1, 3)
    tokens = choose.randint(1, 2) if number % 3 == 0 else 0
    return attention_over(SHAPES[number % len(SHAPES)], dtype, length, rows, tokens, choose)


def attention_over(
    shapes: Shapes, dtype: torch.dtype, length: int, rows: int, tokens: int, choose: random.Random
) -> dict[str, float]:
    """Attention of one of two layers over a cache of `length` positions: a span of so many tokens, or 0 for a step."""
    layer, hidden = choose.randint(0, 1), 48
    block, config = attention_of(shapes, dtype, hidden)
    caches = [KeyValueCache(layers=2, slots=rows + 1, kv_heads=shapes.shared, length=length, head_dim=shapes.width,
                            device=torch.get_default_device(), dtype=dtype) for _ in range(2)]  # fmt: skip
    for name in ("keys", "values"):
        getattr(caches[0], name).normal_()
        getattr(caches[1], name).copy_(getattr(caches[0], name))
    table = rotary_table(length, shapes.width, 1e4, torch.get_default_device(), dtype)
    if not tokens:
        positions = torch.tensor([choose.randrange(length) for _ in range(rows)])
        views = [cache.step(positions, length) for cache in caches]
        rotary = table.at(positions[:, None])
        mask = (torch.arange(length) <= positions[:, None])[:, None, None]
    else:
        start = choose.randint(0, length - tokens)
        views = [cache.span(slice(0, rows), start) for cache in caches]
        rotary = table.span(start, start + tokens)
        mask = torch.ones(tokens, start + tokens, dtype=torch.bool).tril(start)
    x = draw(rows, tokens or 1, hidden, dtype=dtype)
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
    heads, gains = draw(2, 3, 5, 40, dtype=dtype), draw(5, 40, dtype=dtype)
    channels, length = choose.randint(1, 9), choose.choice((1, 5, 333))
    sound, alpha, root = 3 * draw(2, length, channels), draw(channels).exp(), draw(channels).exp()
    more, bias = draw(2, length, channels), draw(channels)
    seeds = torch.tensor([choose.randrange(-(2**63), 2**63) for _ in range(5)])
    frames = torch.tensor([choose.randrange(3_000) for _ in range(5)])
    return {
        "norm": off(launches.rms_norm(x, weight, 1e-6), rms_norm(x, weight, 1e-6)),
        "norm of heads": off(launches.rms_norm(heads, gains, 1e-6), rms_norm(heads, gains, 1e-6)),
        "sum": off(total, expected[0]),
        "norm of sum": off(normed, expected[1]),
        "gate": off(launches.gated(torch.cat((x, added), -1)), F.silu(x) * added),
        "snake": off(launches.snake_beta(sound, alpha, root), sound + (root * torch.sin(sound * alpha)).square()),
        "snake of a sum": off(
            launches.snake_beta(sound, alpha, root, added=more),
            more + sound + (root * torch.sin((sound + more) * alpha)).square(),
        ),
        "snake with a bias": off(
            launches.snake_beta(sound, alpha, root, bias=bias),
            sound + bias + (root * torch.sin((sound + bias) * alpha)).square(),
        ),
        "uniforms": float(not torch.equal(launches.uniforms(seeds, frames, 16), uniforms(seeds, frames))),
    }


# Small and odd ones, the predictor's and the talker's.
_VOCABULARIES = (3, 64, 200, 1_088, 2_048, 3_072)


def choice(number: int) -> dict[str, float]:
    """Rows of every kind: greedy, hot and cold, top-k with ties at its end, top-p, ids without mass, small numbers."""
    choose = random.Random(number)
    rows, vocab = 12, _VOCABULARIES[-1 - number % len(_VOCABULARIES)]
    scores = draw(rows, vocab) * choose.choice((0.3, 2.0, 8.0))
    if number % 2:
        scores = (2 * scores).round() / 2  # many equal, and both zeros
    scores[:, 1:][torch.rand(rows, vocab - 1) < 0.2] = float("-inf")
    rules = (
        torch.tensor([choose.choice((0.0, 0.3, 0.9, 1.5)) for _ in range(rows)]),
        torch.tensor([choose.choice((0, 1, 5, 50, 64, 128, vocab, vocab + 9)) for _ in range(rows)]),
        torch.tensor([choose.choice((0.0, 0.1, 0.8, 0.95, 1.0)) for _ in range(rows)]),
    )
    numbers = torch.rand(rows, 4)[:, 2]
    theirs = pick(scores, rules, numbers)
    return {"codes chosen": float((launches.pick(scores, *rules, numbers) != theirs).sum())}


def worst_of(dtype: torch.dtype, examples: int) -> dict[str, float]:
    """The largest difference of each kind over so many cases."""
    torch.manual_seed(0)
    worst: dict[str, float] = {}
    for case in _cases(dtype, examples):
        for name, value in case.items():
            worst[name] = max(worst.get(name, 0.0), value)
    return worst


def _cases(dtype: torch.dtype, examples: int) -> Iterator[dict[str, float]]:
    for number in range(examples):
        yield attention(dtype, number)
        yield element_wise(dtype, number)
        yield bookkeeping(dtype, number)
        if dtype == torch.float32:
            yield choice(number)
            yield layers(number)
            yield ring(number)
