"""What the engine asks of torch on a card, each by itself and beside the same on the host in float64.

Each function tells in a few words what it saw; it raises where the device does something else.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_engine import Acceleration, kernels
from tts_engine.frame_graphs import FrameGraphs, graph_sizes
from tts_engine.landing import SHEET, LandingRing
from tts_engine.networks.attending import attend
from tts_engine.networks.convolution import Convolution

# Largest difference, as a share of the largest number: ten bits of a factor, and eight.
_TF32, _BFLOAT16 = 2**-9, 2**-6
_GRAPH_ROWS = 8


class Wrong(Exception):
    """The device computed, and something else than it should."""


def described(device: torch.device) -> str:
    """The card, what is free of it, and what torch was built with."""
    if device.type != "cuda":
        return f"{device}, torch {torch.__version__}"
    card, (free, all_there_is) = torch.cuda.get_device_properties(device), torch.cuda.mem_get_info(device)
    capability = f"sm_{card.major}{card.minor}, {card.multi_processor_count} multiprocessors"
    memory = f"{free / 2**30:.1f} of {all_there_is / 2**30:.1f} GiB free"
    return f"{card.name}, {capability}, {memory}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def product(device: torch.device) -> str:
    """Products of one row and of many with a weight, in bfloat16, in float32 and with TF32."""
    told = []
    full = torch.float32
    for dtype, tf32, bound in ((torch.bfloat16, "on", _BFLOAT16), (full, "off", 2**-18), (full, "on", _TF32)):
        Acceleration("off", tf32).choose(device, dtype)
        for rows in (1, 256):
            x, weight = torch.randn(rows, 2_048).to(dtype), torch.randn(1_024, 2_048).to(dtype)
            made = F.linear(x.to(device), weight.to(device))
            told.append(_near(made, F.linear(x.double(), weight.double()), bound))
    return f"off by up to {max(told):.1e}"


def convolution(device: torch.device) -> str:
    """A dilated convolution with channels beside each other, in float32 with TF32."""
    Acceleration("off", "on").choose(device, torch.float32)
    x, weight, bias = torch.randn(2, 54 + 160, 96), torch.randn(96, 96, 7), torch.randn(96)
    made = Convolution.of(weight.to(device), bias.to(device), 9)(x.to(device))
    expected = F.conv1d(x.double().transpose(1, 2), weight.double(), bias.double(), dilation=9).transpose(1, 2)
    return f"off by {_near(made, expected, _TF32):.1e}"


def attention(device: torch.device) -> str:
    """A prompt and a step over grouped heads under a mask, in bfloat16."""
    told = []
    for tokens in (37, 1):
        query, keys, values = (torch.randn(2, heads, count, 128) for heads, count in ((16, tokens), (8, 77), (8, 77)))
        mask = torch.ones(tokens, 77, dtype=torch.bool).tril(77 - tokens)
        query, keys, values = query.bfloat16(), keys.bfloat16(), values.bfloat16()
        made = attend(query.to(device), keys.to(device), values.to(device), mask.to(device))
        expected = attend(query.double(), keys.double(), values.double(), mask)
        told.append(_near(made, expected, _BFLOAT16))
    return f"off by up to {max(told):.1e}"


def landing(device: torch.device) -> str:
    """Sheets that leave through a ring of pinned memory while the next ones are made."""
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        ring, sheet = LandingRing(_GRAPH_ROWS, 3, device), torch.zeros(_GRAPH_ROWS, SHEET, device=device).short()
        flights, first = [], []
        for number in range(40):
            sheet.fill_(number)
            flights.append(ring.send(ring.take(), sheet))
            if number:
                first.append(int(flights.pop(0).land().pcm[0, 0]))
        first.append(int(flights.pop().land().pcm[-1, -1]))
    if first != list(range(40)):
        raise Wrong(f"sheets came as {first}")
    return "40 sheets in their order"


def graphs(device: torch.device) -> str:
    """Recordings of several sizes that share memory, replayed in turn on inputs that were not there when recorded."""
    stream, inputs = torch.cuda.Stream(device), torch.zeros(_GRAPH_ROWS, 64, device=device)
    weight = torch.eye(64, device=device)

    def step(rows: int) -> Tensor:
        made = F.linear(inputs[:rows] + 1, weight).sum(1, keepdim=True)
        return made.expand(-1, SHEET).to(torch.int16)

    torch.cuda.synchronize(device)
    with torch.cuda.stream(stream):
        recorded = FrameGraphs(step, _GRAPH_ROWS, device)
        for number in range(20):
            inputs.fill_(number)
            rows = graph_sizes(_GRAPH_ROWS)[number % len(graph_sizes(_GRAPH_ROWS))]
            made = recorded.replay(rows).clone()
            if not bool((made == 64 * (number + 1)).all()):
                raise Wrong(f"a replay of {rows} rows made {made[:, 0].tolist()} of {number}")
    return f"sizes {', '.join(map(str, graph_sizes(_GRAPH_ROWS)))}"


def one_kernel(device: torch.device) -> str:
    """The language compiles a norm here, the driver takes it, and it is right."""
    Acceleration("on", "off").choose(device, torch.bfloat16)
    kernels.choose(on=False)
    import triton

    return f"triton {triton.__version__}"


def _near(made: Tensor, expected: Tensor, bound: float) -> float:
    """How far apart, as a share of the largest number. Raises Wrong above `bound`, and for what is no number."""
    off = float((made.double().cpu() - expected).abs().max() / expected.abs().max())
    if not off <= bound:
        raise Wrong(f"off by {off:.1e} where up to {bound:.1e} is rounding")
    return off
