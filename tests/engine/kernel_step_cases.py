"""Kernels of a step's bookkeeping and of the codec's layers against the operations they stand for (kernel_cases.py)."""

import random

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.engine.kernel_draws import draw, off
from tts_engine import kernels
from tts_engine.audio import PCM_SCALE, to_pcm16
from tts_engine.kernels import launches
from tts_engine.kernels.arguments import Entry
from tts_engine.kv_cache import RingView
from tts_engine.landing import sheet_of
from tts_engine.networks.attending import attend
from tts_engine.networks.codec_layers import Streams
from tts_engine.networks.layers import rms_norm, rotary_frequencies, rotary_of, rotate
from tts_engine.sampling import SamplingRows


def whole(choose: random.Random, low: int, high: int, *shape: int) -> Tensor:
    count = int(torch.tensor(shape).prod())
    return torch.tensor([choose.randrange(low, high) for _ in range(count)]).view(shape)


def bookkeeping(dtype: torch.dtype, number: int) -> dict[str, float]:
    """Tables, text, counters and the sheet, for three rows of which one is held and one has ended."""
    choose = random.Random(number)
    width, vocab, rows = choose.choice((24, 64, 1_030)), 40, 3
    codes = whole(choose, 0, vocab, rows, 16)
    codes[1, 0] = end = vocab + 5
    tables, first = draw(15, vocab, width, dtype=dtype), draw(vocab + 10, width, dtype=dtype)
    text, gains = draw(rows, width, dtype=dtype), draw(width, dtype=dtype)
    total, normed = launches.next_inputs(codes, first, tables, text, gains, 1e-6)
    rest = sum(table[code].float() for table, code in zip(tables, codes[:, 1:].T, strict=True))
    expected = F.embedding(codes[:, 0], first) + rest.to(dtype) + text
    ids, frames, counts = whole(choose, 0, vocab, rows, 9), whole(choose, 0, 9, rows), whole(choose, 0, 9, rows)
    table = draw(vocab, 2 * width, dtype=dtype)
    named = table[ids[torch.arange(rows), torch.minimum(frames, counts)]]
    books = draw(16, vocab, width)
    sounded = sum(book[code] for book, code in zip(books, codes.clamp(max=vocab - 1).T, strict=True))
    samples = draw(rows, 1_920)
    samples[0, :8] = (torch.arange(8) - 3.5) / PCM_SCALE
    sheet = sheet_of(codes, to_pcm16(samples.clamp(-1, 1)), codes[:, 0] == end)
    return {
        "next inputs": off(total[:, 0], expected),
        "norm of inputs": off(normed, rms_norm(total, gains, 1e-6)),
        "next text": off(launches.next_text(ids, frames, counts, table), named),
        "sum of codes": off(launches.summed(codes, books), sounded),
        "sheet": float((launches.sheet(samples, codes, end, PCM_SCALE) != sheet).sum()),
        "advanced": _advanced(choose, dtype),
    }


def _advanced(choose: random.Random, dtype: torch.dtype) -> float:
    targets = torch.tensor([0, 3, 2])
    hidden, made = draw(4, 20, dtype=dtype), draw(3, 20, dtype=dtype)
    counts, more = whole(choose, 0, 90, 4), whole(choose, 0, 90, 4)
    expected = [part.clone() for part in (counts, more, hidden)]
    for part in expected[:2]:
        part[targets] += 2
    expected[2][targets] = made
    launches.advance(targets, counts, more, 2, made, hidden)
    return float(sum((one != other).sum() for one, other in zip((counts, more, hidden), expected, strict=True)))


def layers(number: int) -> dict[str, float]:
    """The codec's layers with what they remember, two calls long, for three streams of which one is held."""
    choose = random.Random(number)
    channels, keep = choose.choice((8, 40, 96)), choose.choice((1, 2, 6, 18, 54))
    targets, worst = torch.tensor([0, 3, 2]), dict.fromkeys(("joined", "overlapped", "depthwise", "remembered"), 0.0)
    alpha, root, bias, gain = (draw(channels).exp() for _ in range(4))
    tails = [draw(4, *shape) for shape in ((keep, channels), (1, channels), (6, channels))]
    ours, weight = [tail.clone() for tail in tails], draw(7, channels)
    streams = Streams(tails, targets)
    for length in (choose.choice((1, 2, 40)), choose.choice((3, 33, 70))):
        x, added = draw(3, length, channels), draw(3, length, channels)
        wave = x + added + (root * torch.sin((x + added) * alpha)).square()
        total, made = launches.joined(x, ours[0], targets, added=added, wave=(alpha, root))
        worst["joined"] = max(worst["joined"], off(made, streams.join(0, wave)), off(total, x + added))
        both = draw(3, length, 2 * channels)
        own, late = both.chunk(2, dim=-1)
        overlap = own + streams.join(1, late)[:, :-1]
        worst["overlapped"] = max(worst["overlapped"], off(launches.overlapped(both, ours[1], targets), overlap))
        windows = streams.join(2, x).unfold(1, 7, 1)
        deep = F.layer_norm(torch.einsum("btck,kc->btc", windows, weight) + bias, (channels,), gain, bias, 1e-6)
        made = launches.depthwise_normed(x, weight, bias, (gain, bias), ours[2], targets, 1e-6)
        worst["depthwise"] = max(worst["depthwise"], off(made, deep))
        # The last row takes what is to be forgotten.
        kept = [off(one[:3], other[:3]) for one, other in zip(ours, tails, strict=True)]
        worst["remembered"] = max(worst["remembered"], *kept)
    return worst


def ring(number: int) -> dict[str, float]:
    """A step of the codec's transformer over rings that have hardly begun or turned many times."""
    choose = random.Random(number)
    rows, (heads, width, window) = 3, choose.choice(((2, 16, 5), (3, 24, 40), (16, 64, 72)))
    frames = torch.tensor([choose.choice((0, 1, window - 1, window, 7 * window + 3)) for _ in range(rows)])
    shape = (2, 4, heads, window, width)
    pair = draw(*shape), draw(*shape)
    stored = [[part.clone() for part in pair] for _ in range(2)]
    views = [RingView(keys, values, frames, 1, window) for keys, values in stored]
    product, frequencies = draw(rows, 1, 3 * heads, width), rotary_frequencies(width, 1e4, frames.device)
    turn = rotary_of(views[0].positions, frequencies, torch.float32)
    turns = launches.turns(frames, frequencies, torch.float32)
    placed = views[0].place(1)
    assert placed is not None
    made = launches.attention(product, None, (turn.cos, turn.sin), *placed, 1e-5, ring=True)
    query, key, value = (part.transpose(1, 2) for part in product.split(heads, dim=2))
    seen = attend(rotate(query, turn), *views[1].append(1, rotate(key, turn), value), views[1].visible)
    return {
        "ring": off(made, seen),
        "ring kept": max(off(one, other) for one, other in zip(*stored, strict=True)),
        "turns": max(off(one, other) for one, other in zip(turns, (turn.cos, turn.sin), strict=True)),
    }


def spoken(rules: SamplingRows, vocab: int, number: int) -> dict[str, float]:
    """First codes by the talker's rules, from scores of bfloat16, and where the next pass finds their rows."""
    choose = random.Random(number)
    rows, codes = rules.penalty.shape[0], torch.empty(rules.penalty.shape[0], 3, dtype=torch.int64)
    scores = (3 * draw(rows, vocab)).bfloat16()
    frames, targets = whole(choose, 0, 4, rows), torch.arange(rows)
    targets[1] = rows
    numbers, seen = torch.rand(rows, 16)[:, 5], rules.seen.random_(0, 2)
    before = seen.clone()
    table, gains = draw(vocab - 1_024, 40), draw(40)
    entry = Entry(table, torch.empty(rows, 2, 40)[:, 1], gains, torch.empty(rows, 40), 1e-6)
    kernels.choose(on=True)
    rules.begin(scores, frames, numbers, targets, codes[:, 2], entry)
    kernels.choose(on=False)
    ours = seen.clone()
    seen.copy_(before)
    theirs = rules.first_codes(scores.float(), frames, numbers, targets)
    entered = F.embedding(theirs.clamp(max=table.shape[0] - 1), table)
    assert entry.normed is not None
    return {
        "first codes": float((codes[:, 2] != theirs).sum()),
        "seen": float((ours[:rows] != seen[:rows]).sum()),
        "entered": off(entry.inputs, entered),
        "entered norm": off(entry.normed, rms_norm(entered, gains, 1e-6)),
    }
