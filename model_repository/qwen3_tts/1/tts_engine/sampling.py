"""Choosing codes: penalties, temperature, top-k, top-p, and random numbers that belong to a request alone.

Order of operations as transformers 4.57.3 applies them. One uniform number is drawn for each (seed, frame,
codebook) by the counter-based generator Philox 4x32-10 (Salmon et al., SC 2011) in integer arithmetic, so it is
the same on every device and whatever shares the batch; the choice is the inverse of the cumulative distribution.
"""

from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor

from . import kernels
from .config import CODEBOOKS
from .kernels.arguments import Entry, SpokenRules
from .model_config import RESERVED_IDS, ModelConfig
from .sampling_values import Sampling

MIN_FRAMES = 2
_ROUNDS = 10
_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
# A whole number of a processor's vectors, so that sums over a shortlist add up in the order of sums over all.
_SHORTLIST_STEP = 64


Rules = tuple[Tensor, Tensor, Tensor]
"""Temperature, top_k and top_p of some rows."""


class SamplingRows:
    """The sampling values of S slots as static device tensors, and the first codes each has used.

    talker and predictor are rules of (S,) tensors; seen is bool (S+1, V).
    """

    def __init__(self, slots: int, config: ModelConfig, device: torch.device) -> None:
        def row(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.full((slots,), value, dtype=dtype, device=device)

        self.talker = (row(0.0), row(0, torch.int64), row(1.0))
        self.predictor = (row(0.0), row(0, torch.int64), row(1.0))
        self.penalty = row(1.0)
        self.seed = row(0, torch.int64)
        self.seen = torch.zeros(slots + 1, config.vocab, dtype=torch.bool, device=device)
        ids = torch.arange(config.vocab, device=device)
        self._end = config.ids.codec_eos
        self._ends = ids == self._end
        self._used = torch.ones((), dtype=torch.bool, device=device)
        self._suppressed = (ids >= config.vocab - RESERVED_IDS) & ~self._ends

    def admit(self, slot: int, sampling: Sampling) -> None:
        """Give `slot` the values of a new utterance that has used no code yet."""
        values = (
            (self.talker, (sampling.temperature, sampling.top_k, sampling.top_p)),
            (
                self.predictor,
                (sampling.predictor_temperature, sampling.predictor_top_k, sampling.predictor_top_p),
            ),
            ((self.penalty, self.seed), (sampling.repetition_penalty, _signed(sampling.seed))),
        )
        for tensors, numbers in values:
            for tensor, number in zip(tensors, numbers, strict=True):
                tensor[slot].fill_(number)  # filled, as slot_state.py explains
        self.seen[slot].zero_()

    def move(self, source: int, target: int) -> None:
        """Copy slot `source` to slot `target`."""
        for old, new in zip(self.parts(source), self.parts(target), strict=True):
            new.copy_(old)

    def parts(self, slot: int) -> list[Tensor]:
        """Views of all values of `slot`."""
        return [tensor[slot] for tensor in (*self.talker, *self.predictor, self.penalty, self.seed, self.seen)]

    def shortlist(self, rows: int) -> int:
        """How many of the best scores `pick` should look at for these rows; 0 where a row wants all.

        Reads the rules, for which the host of a GPU would have to wait: for a CPU alone.
        """
        most = 0
        for temperature, top_k, _ in (self.talker, self.predictor):
            reach = torch.where(temperature[:rows] == 0, 1, top_k[:rows])
            if not reach.all():
                return 0
            most = max(most, int(reach.max()))
        # Twice as many, since equals at the k-th place all stay.
        return -(-2 * most // _SHORTLIST_STEP) * _SHORTLIST_STEP

    def first_codes(
        self, scores: Tensor, frames: Tensor, uniforms: Tensor, targets: Tensor, shortlist: int = 0
    ) -> Tensor:
        """Choose the first codes (B,) of the next frames, and remember them for the rows `targets` (B,).

        scores (B, V); frames (B,): how many frames each row has made; uniforms (B,). shortlist: see `pick`.
        """
        rows = scores.shape[0]
        if kernels.chosen() is not None:
            return self.begin(scores, frames, uniforms, targets, scores.new_empty(rows, dtype=torch.int64), None)
        penalty = self.penalty[:rows, None].to(scores.dtype)
        seen = self.seen[:rows]
        scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
        scores = scores.masked_fill(self._suppressed, -math.inf)
        early = (frames < MIN_FRAMES)[:, None] & self._ends
        rules = _first_rows(self.talker, rows)
        codes = pick(scores.masked_fill(early, -math.inf), rules, uniforms, shortlist)
        self.seen.index_put_((targets, codes), self._used)
        return codes

    def begin(
        self, scores: Tensor, frames: Tensor, uniforms: Tensor, targets: Tensor, codes: Tensor, entry: Entry | None
    ) -> Tensor:
        """`first_codes` in one kernel, from scores of any dtype into codes (B,), whose rows of a table go on as `entry`
        says."""
        spoken = SpokenRules(self.penalty, self.seen, frames, targets, RESERVED_IDS, self._end, MIN_FRAMES)
        rules = _first_rows(self.talker, scores.shape[0])
        return _fused().pick(scores, *rules, uniforms, codes=codes, spoken=spoken, entry=entry)

    def follow(self, scores: Tensor, uniforms: Tensor, codes: Tensor, entry: Entry | None) -> Tensor:
        """`predicted_codes` in one kernel, as `begin` is `first_codes`."""
        rules = _first_rows(self.predictor, scores.shape[0])
        return _fused().pick(scores, *rules, uniforms, codes=codes, entry=entry)

    def predicted_codes(self, scores: Tensor, uniforms: Tensor, shortlist: int = 0) -> Tensor:
        """Choose the codes (B,) of one of the other codebooks from scores (B, V). shortlist: see `pick`."""
        return pick(scores, _first_rows(self.predictor, scores.shape[0]), uniforms, shortlist)


def pick(scores: Tensor, rules: Rules, uniforms: Tensor, shortlist: int = 0) -> Tensor:
    """Sample ids (B,) from scores (B, V) by rules and uniforms (B,).

    temperature 0 takes the best score (the lowest id among equals). Of equals at the k-th place all stay.
    uniforms are in [0, 1). shortlist: above every top_k, and only so many of the best scores are looked at; the choice
    is the same, and the host waits for it. 0 looks at all.
    """
    temperature, top_k, top_p = rules
    fused = kernels.chosen()
    if fused is not None:
        return fused.pick(scores, temperature, top_k, top_p, uniforms)
    greedy = temperature == 0
    # A temperature near 0 would make scores infinite; at 1e-6 a choice is long as good as greedy.
    scale = torch.where(greedy, 1.0, temperature).clamp(min=1e-6).to(scores.dtype)
    ordered, ids, lowest = _ranked(scores / scale[:, None], torch.where(greedy, 1, top_k), shortlist)
    ordered = ordered.masked_fill(ordered < lowest, -math.inf)
    before = _cumulative_before(ordered.softmax(-1))
    keep = (before < top_p[:, None]) | (top_p[:, None] >= 1.0)
    keep[:, :1].fill_(True)
    mass = ordered.masked_fill(~keep, -math.inf).softmax(-1)
    place = (_cumulative_before(mass) <= uniforms[:, None]).sum(-1) - 1
    # Rounding may leave the whole mass a hair below the number drawn; ids without mass are never chosen.
    place = torch.minimum(place, (mass > 0).sum(-1) - 1).clamp(min=0)
    return ids.gather(1, torch.where(greedy, 0, place)[:, None])[:, 0]


def _fused() -> ModuleType:
    fused = kernels.chosen()
    assert fused is not None, "asked of kernels that are not in use"
    return fused


def _ranked(scores: Tensor, top_k: Tensor, shortlist: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores from the best down, of equals the lowest id first: (B, n) each of them and of their ids; and the k-th.

    n is shortlist, unless that cuts through equals that all must stay. The k-th (B, 1) is the last without a top_k.
    """
    vocab = scores.shape[1]
    if 0 < shortlist < vocab:
        ids = scores.topk(shortlist, sorted=False).indices.sort(dim=-1).values
        ordered, order = scores.gather(1, ids).sort(dim=-1, descending=True, stable=True)
        lowest = ordered.gather(1, top_k[:, None] - 1)
        if (ordered[:, -1:] < lowest).all():
            return ordered, ids.gather(1, order), lowest
    ordered, ids = torch.sort(scores, dim=-1, descending=True, stable=True)
    last = torch.where(top_k > 0, top_k, vocab).clamp(max=vocab) - 1
    return ordered, ids, ordered.gather(1, last[:, None])


def _first_rows(rules: Rules, rows: int) -> Rules:
    temperature, top_k, top_p = rules
    return temperature[:rows], top_k[:rows], top_p[:rows]


def _cumulative_before(probabilities: Tensor) -> Tensor:
    """The mass of all columns before each column."""
    return probabilities.cumsum(-1) - probabilities


def uniforms(seeds: Tensor, frames: Tensor) -> Tensor:
    """The random numbers of one frame: float32 (B, Q) in [0, 1), a pure function of (seed, frame, codebook).

    seeds int64 (B,), their 64 bits the key; frames int64 (B,).
    """
    fused = kernels.chosen()
    if fused is not None:
        return fused.uniforms(seeds, frames, CODEBOOKS)
    groups = torch.arange(CODEBOOKS // 4, device=seeds.device).expand(seeds.shape[0], -1)
    zeros = torch.zeros_like(groups)
    counter = (groups, frames[:, None] + zeros, zeros, zeros)
    key = (seeds[:, None] & _MASK, (seeds[:, None] >> 32) & _MASK)
    words = torch.stack(_philox(counter, key), dim=-1).flatten(1)
    return (words >> 8).to(torch.float32) * 2.0**-24


_Words = tuple[Tensor, Tensor, Tensor, Tensor]


def _philox(counter: _Words, key: tuple[Tensor, Tensor]) -> _Words:
    """Philox 4x32-10 on int64 tensors that hold 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # A product of two 32-bit words may pass 2^63; wrapped, its 64 bits are still the right ones.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _signed(seed: int) -> int:
    """An unsigned 64-bit number as the signed one with the same bits, which an int64 tensor can hold."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed
