"""Sampling against independent statements of it: published Philox vectors, and the rules written out in numpy."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import Figure
from tests.engine.reference import one_choice, philox_in_whole_numbers, uniform_of
from tts_engine.sampling import _philox, pick, uniforms

# kat_vectors of the Random123 distribution: philox 4x32, 10 rounds; counter, key, result.
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), PUBLISHED)
def test_philox_gives_the_published_numbers(
    counter: tuple[int, ...], key: tuple[int, int], result: tuple[int, ...]
) -> None:
    words = _philox(
        tuple(torch.tensor([c]) for c in counter),  # type: ignore[arg-type]
        (torch.tensor([key[0]]), torch.tensor([key[1]])),
    )
    assert tuple(word.item() for word in words) == result
    assert philox_in_whole_numbers(counter, key) == result


@given(seed=st.integers(0, 2**64 - 1), frame=st.integers(0, 2**31))
@settings(max_examples=60)
def test_the_uniforms_of_a_frame_are_philox_of_seed_frame_and_codebook(seed: int, frame: int) -> None:
    signed = seed - 2**64 if seed >= 2**63 else seed
    drawn = uniforms(torch.tensor([signed]), torch.tensor([frame]))[0]
    assert drawn.tolist() == [uniform_of(seed, frame, codebook) for codebook in range(16)]


def test_uniforms_do_not_depend_on_what_shares_the_batch() -> None:
    seeds, frames = torch.randint(-(2**63), 2**63 - 1, (50,)), torch.randint(0, 2_250, (50,))
    together = uniforms(seeds, frames)
    order = torch.randperm(50)
    assert torch.equal(uniforms(seeds[order], frames[order]), together[order])
    assert all(torch.equal(uniforms(seeds[i : i + 1], frames[i : i + 1])[0], together[i]) for i in range(50))
    assert together.shape == (50, 16)
    assert len(together.unique()) > 790


def test_uniforms_are_uniform() -> None:
    drawn = uniforms(torch.arange(4_000), torch.full((4_000,), 3)).flatten().double()
    assert 0 <= drawn.min() < 1e-3
    assert 0.999 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.005
    assert abs(drawn.var() - 1 / 12) < 0.002


def acceptable(scores: list[float], temperature: float, top_k: int, top_p: float, uniform: float) -> set[int]:
    """Ids the rules allow: more than one only where a limit lies within rounding."""
    shift = 1e-9
    return {
        one_choice(scores, temperature, top_k, top_p + a, uniform + b)
        for a in (-shift, 0.0, shift)
        for b in (-shift, 0.0, shift)
        if top_p < 1 or a == 0
    }


@given(
    scores=st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=24),
    temperature=st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.5]),
    top_k=st.integers(0, 30),
    top_p=st.sampled_from([0.0, 0.05, 0.5, 0.8, 0.95, 1.0]),
    uniform=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=400)
def test_pick_chooses_as_the_rules_say(
    scores: list[float], temperature: float, top_k: int, top_p: float, uniform: float
) -> None:
    values = [torch.tensor([v], dtype=torch.float64) for v in (temperature, top_p, uniform)]
    rules = (values[0], torch.tensor([top_k]), values[1])
    chosen = pick(torch.tensor([scores], dtype=torch.float64), rules, values[2]).item()
    assert chosen in acceptable(scores, temperature, top_k, top_p, uniform)


def rules(temperature: float, top_k: int, top_p: float, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.full((rows,), temperature), torch.full((rows,), top_k), torch.full((rows,), top_p)


def test_equals_at_the_kth_place_all_stay() -> None:
    scores = torch.tensor([1.0, 3.0, 2.0, 2.0, 2.0, 0.0]).expand(999, -1)
    chosen = pick(scores, rules(1.0, 2, 1.0, 999), torch.arange(999) / 999)
    assert sorted(chosen.unique().tolist()) == [1, 2, 3, 4]


def test_greedy_takes_the_lowest_of_equals_whatever_the_number_drawn() -> None:
    scores = torch.tensor([[0.0, 5.0, 1.0, 5.0]]).expand(3, -1)
    assert pick(scores, rules(0.0, 50, 1.0, 3), torch.tensor([0.0, 0.5, 0.999])).tolist() == [1, 1, 1]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0.0, 0.7, 0.9]), st.integers(1, 60), st.sampled_from([0.3, 0.9, 1.0])),
        min_size=1,
        max_size=8,
    ),
    vocab=st.sampled_from([130, 1_088, 2_048, 3_072]),
    grid=st.sampled_from([0.0, 0.01, 0.5, 4.0]),
    suppressed=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_of_a_shortlist_the_choice_is_that_of_all_to_the_bit(
    rows: list[tuple[float, int, float]], vocab: int, grid: float, suppressed: bool, seed: int
) -> None:
    """The coarser the grid scores lie on, the more of them are equal, also at the k-th place and the list's end."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(rows), vocab, generator=draw) * 3
    if grid:
        scores = (scores / grid).round() * grid
    if suppressed:
        scores[:, vocab // 3 :] = -math.inf
    temperature, top_k, top_p = zip(*rows, strict=True)
    values = (torch.tensor(temperature), torch.tensor(top_k), torch.tensor(top_p))
    for number in torch.rand(20, len(rows), generator=draw):
        assert torch.equal(pick(scores, values, number, 128), pick(scores, values, number))


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-20, 1e-6])
def test_a_temperature_as_small_as_a_float_can_be_is_as_good_as_greedy(temperature: float) -> None:
    scores = torch.tensor([[-50.0, 5.0, 4.9, -math.inf], [-5.0, -9.0, -4.0, -math.inf]])
    assert pick(scores, rules(temperature, 0, 1.0, 2), torch.tensor([0.0, 0.99])).tolist() == [1, 2]


def test_ids_without_mass_are_never_chosen() -> None:
    scores = torch.full((4, 30), -math.inf)
    scores[:, [4, 9]] = torch.tensor([1.0, 1.0])
    uniform = torch.tensor([0.0, 0.49, 0.51, 1 - 2.0**-24])
    assert pick(scores, rules(1.0, 0, 1.0, 4), uniform).tolist() == [4, 4, 9, 9]


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(0.9, 50, 1.0), (1.0, 8, 1.0), (1.5, 0, 0.8)])
def test_many_choices_follow_the_distribution(temperature: float, top_k: int, top_p: float, figure: Figure) -> None:
    scores = torch.randn(60, generator=torch.Generator().manual_seed(3)) * 2
    draws = 40_000
    numbers = uniforms(torch.arange(draws // 16), torch.full((draws // 16,), 7)).flatten()
    chosen = pick(scores.expand(draws, -1), rules(temperature, top_k, top_p, draws), numbers)
    expected = np.array(list(distribution(scores.double().numpy(), temperature, top_k, top_p)))
    counts = np.bincount(chosen.numpy(), minlength=60)
    assert counts[expected == 0].sum() == 0
    cells = expected * draws >= 5
    square = ((counts - expected * draws)[cells] ** 2 / (expected * draws)[cells]).sum()
    freedom = int(cells.sum()) - 1
    figure(f"chi-square of {draws} draws ({temperature}, {top_k}, {top_p}), {freedom} degrees", f"{square:.1f}")
    assert square < freedom + 4 * math.sqrt(2 * freedom)


def distribution(scores: np.ndarray, temperature: float, top_k: int, top_p: float) -> Iterator[float]:
    """The probability of each id, from scores without equals."""
    weights = np.exp(scores / temperature)
    if top_k:
        weights[np.argsort(-weights)[top_k:]] = 0
    weights /= weights.sum()
    order = np.argsort(-weights)
    before = np.cumsum(weights[order]) - weights[order]
    weights[order[before >= top_p]] = 0
    yield from weights / weights.sum()
