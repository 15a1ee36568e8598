"""Packed products and convolutions are the plain ones, whatever the shape and however the input lies in memory."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tts_engine.networks.convolution import Convolution
from tts_engine.networks.linear import PACKED, Linear

TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}
DTYPES = sorted((PACKED | {torch.float64}) & TOLERANCES.keys(), key=str)

sizes = st.integers(1, 40)


def noise(seed: int, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def assert_alike(one: Tensor, other: Tensor) -> None:
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    scale = max(1.0, other.abs().max().item())
    assert (one - other).abs().max().item() <= TOLERANCES[one.dtype] * scale


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9), tokens=sizes, incoming=sizes, outgoing=sizes, bias=st.booleans(), seed=st.integers(0, 99)
)
def test_a_product_is_the_plain_one(
    dtype: torch.dtype, rows: int, tokens: int, incoming: int, outgoing: int, bias: bool, seed: int
) -> None:
    weight, added = noise(seed, dtype, outgoing, incoming), noise(seed + 1, dtype, outgoing) if bias else None
    x = noise(seed + 2, dtype, rows, tokens, 2 * incoming)
    product = Linear.of(weight, added)
    for part in (x[..., :incoming], x[:, -1, incoming:], x[:, :, ::2], x.transpose(0, 1)[..., :incoming]):
        assert_alike(product(part), F.linear(part, weight, added))


def test_products_of_one_input_can_be_one() -> None:
    weights = [noise(n, torch.float32, width, 24) for n, width in enumerate((32, 8, 8))]
    x = noise(9, torch.float32, 3, 5, 24)
    apart = torch.cat([F.linear(x, weight) for weight in weights], dim=-1)
    assert_alike(Linear.stacked(weights)(x), apart)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4),
    tokens=sizes,
    incoming=sizes,
    outgoing=sizes,
    kernel=st.sampled_from([1, 3, 7]),
    dilation=st.sampled_from([1, 3, 9]),
    seed=st.integers(0, 99),
)
def test_a_convolution_is_the_plain_one(
    dtype: torch.dtype, rows: int, tokens: int, incoming: int, outgoing: int, kernel: int, dilation: int, seed: int
) -> None:
    weight, bias = noise(seed, dtype, outgoing, incoming, kernel), noise(seed + 1, dtype, outgoing)
    x = noise(seed + 2, dtype, rows, tokens + (kernel - 1) * dilation, incoming)
    plain = F.conv1d(x.transpose(1, 2), weight, bias, dilation=dilation).transpose(1, 2)
    assert_alike(Convolution.of(weight, bias, dilation)(x), plain)


@pytest.mark.parametrize("tokens", [4, 700])
def test_a_large_convolution_is_the_plain_one_in_one_piece_or_in_many(tokens: int) -> None:
    weight, bias = noise(1, torch.float32, 600, 600, 7), noise(2, torch.float32, 600)
    x = noise(3, torch.float32, 2, tokens + 18, 600)
    plain = F.conv1d(x.transpose(1, 2), weight, bias, dilation=3).transpose(1, 2)
    convolution = Convolution.of(weight, bias, 3)
    assert convolution.product is not None, "a large weight goes over windows"
    assert_alike(convolution(x), plain)
