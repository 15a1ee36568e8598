"""The talker's and the predictor's rules, row by row: what each slot's utterance asked for, kept and moved with it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tts_engine.checkpoint import Checkpoint
from tts_engine.sampling import SamplingRows, uniforms
from tts_engine.sampling_values import Sampling

CPU = torch.device("cpu")
CODES = 64
BASE = Sampling(
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    repetition_penalty=1.0,
    predictor_temperature=0.0,
    predictor_top_k=0,
    predictor_top_p=1.0,
    seed=0,
)


@pytest.mark.parametrize(
    ("talker", "predictor", "shortlist"),
    [((0.9, 50), (0.9, 50), 128), ((0.9, 50), (0.9, 70), 192), ((0.0, 0), (0.0, 0), 64), ((0.9, 50), (0.9, 0), 0)],
)
def test_a_shortlist_holds_what_every_row_may_choose(
    rows: SamplingRows, talker: tuple[float, int], predictor: tuple[float, int], shortlist: int
) -> None:
    rows.admit(0, Sampling(**{**vars(BASE), "temperature": 0.5, "top_k": 3}))
    values = {"temperature": talker[0], "top_k": talker[1]}
    values |= {"predictor_temperature": predictor[0], "predictor_top_k": predictor[1]}
    rows.admit(1, Sampling(**{**vars(BASE), **values}))
    assert rows.shortlist(2) == shortlist
    assert rows.shortlist(1) == 64


# The talker's rules, which know the codec vocabulary: 64 codes, then 1,024 ids of which only the end may be said.


@pytest.fixture
def rows(checkpoint: Checkpoint) -> SamplingRows:
    return SamplingRows(3, checkpoint.model, CPU)


def some_scores(checkpoint: Checkpoint, count: int = 3) -> Tensor:
    return torch.randn(count, checkpoint.model.vocab, generator=torch.Generator().manual_seed(1))


def first(rows: SamplingRows, scores: Tensor, frame: int = 9, uniform: float = 0.5) -> list[int]:
    count = scores.shape[0]
    frames, numbers = torch.full((count,), frame), torch.full((count,), uniform)
    return rows.first_codes(scores, frames, numbers, torch.arange(count)).tolist()


def test_the_end_may_not_come_before_two_frames(checkpoint: Checkpoint, rows: SamplingRows) -> None:
    eos, scores = checkpoint.model.ids.codec_eos, some_scores(checkpoint)
    scores[:, eos] = 100
    frames = torch.tensor([0, 1, 2])
    chosen = rows.first_codes(scores, frames, torch.zeros(3), torch.arange(3)).tolist()
    assert chosen[0] < CODES
    assert chosen[1] < CODES
    assert chosen[2] == eos


@given(seed=st.integers(0, 2**32), temperature=st.sampled_from([0.0, 1.0, 10.0]))
@settings(max_examples=50)
def test_only_codes_and_the_end_are_ever_chosen(checkpoint: Checkpoint, seed: int, temperature: float) -> None:
    rows = SamplingRows(3, checkpoint.model, CPU)
    rows.admit(1, Sampling(**{**vars(BASE), "temperature": temperature}))
    scores = some_scores(checkpoint) + torch.where(torch.arange(checkpoint.model.vocab) >= CODES, 50.0, 0.0)
    scores[:, checkpoint.model.ids.codec_eos] -= 48
    drawn = uniforms(torch.full((3,), seed), torch.arange(3))[:, 0]
    chosen = rows.first_codes(scores, torch.full((3,), 5), drawn, torch.arange(3)).tolist()
    assert all(code < CODES or code == checkpoint.model.ids.codec_eos for code in chosen)


def test_a_repeated_code_is_penalised_once_however_often_it_was_said(
    checkpoint: Checkpoint, rows: SamplingRows
) -> None:
    rows.admit(0, Sampling(**{**vars(BASE), "repetition_penalty": 2.0}))
    scores = torch.full((1, checkpoint.model.vocab), -20.0)
    scores[0, :3] = torch.tensor([8.0, 4.5, -1.0])
    assert first(rows, scores) == [0]
    assert first(rows, scores) == [1]  # 8 / 2 = 4 < 4.5
    assert first(rows, scores) == [0]  # 4 > 4.5 / 2
    assert first(rows, scores) == [0]  # still 4
    scores[0, :3] = torch.tensor([-1.5, -40.0, -2.5])
    assert first(rows, scores) == [2]  # -1.5 * 2 = -3 < -2.5


def test_the_penalty_is_the_rows_own_moves_with_it_and_ends_with_it(checkpoint: Checkpoint, rows: SamplingRows) -> None:
    for slot in range(3):
        rows.admit(slot, Sampling(**{**vars(BASE), "repetition_penalty": 2.0}))
    scores = torch.full((3, checkpoint.model.vocab), -20.0)
    scores[:, :2] = torch.tensor([8.0, 7.0])
    assert first(rows, scores[:1]) == [0]
    assert first(rows, scores) == [1, 0, 0]
    rows.move(0, 2)
    rows.admit(0, BASE)
    assert first(rows, scores) == [0, 1, 0]


@given(held=st.sets(st.integers(0, 2)), steps=st.integers(1, 5))
@settings(max_examples=30)
def test_a_row_that_is_held_has_said_nothing(checkpoint: Checkpoint, held: set[int], steps: int) -> None:
    rows = SamplingRows(3, checkpoint.model, CPU)
    for slot in range(3):
        rows.admit(slot, Sampling(**{**vars(BASE), "repetition_penalty": 2.0}))
    scores = some_scores(checkpoint)
    targets = torch.tensor([3 if slot in held else slot for slot in range(3)])
    said: list[list[int]] = []
    for _ in range(steps):
        said.append(rows.first_codes(scores, torch.full((3,), 9), torch.full((3,), 0.5), targets).tolist())
    for slot in range(3):
        expected = set() if slot in held else {codes[slot] for codes in said}
        assert set(rows.seen[slot].nonzero()[:, 0].tolist()) == expected
    assert all(codes[slot] == said[0][slot] for codes in said for slot in held)


def test_admitted_values_reach_the_rules_and_move(rows: SamplingRows) -> None:
    sampling = Sampling(0.5, 7, 0.25, 1.5, 0.75, 3, 0.125, 2**64 - 2)
    rows.admit(1, sampling)
    rows.move(1, 2)
    for slot in (1, 2):
        assert [tensor[slot].item() for tensor in rows.talker] == [0.5, 7, 0.25]
        assert [tensor[slot].item() for tensor in rows.predictor] == [0.75, 3, 0.125]
        assert (rows.penalty[slot].item(), rows.seed[slot].item()) == (1.5, -2)
    assert rows.seed[0].item() == 0


def test_predicted_codes_follow_the_predictors_rules_row_by_row(rows: SamplingRows) -> None:
    rows.admit(0, BASE)
    rows.admit(1, Sampling(**{**vars(BASE), "predictor_temperature": 1.0}))
    scores = torch.tensor([[0.0, 1.0, 0.5], [0.0, 1.0, 0.5]])
    assert rows.predicted_codes(scores, torch.tensor([0.99, 0.99])).tolist() == [1, 0]
