"""Cached == full: steps over the key/value cache give what one pass over everything gives, in any company."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.conftest import Demo, Figure
from tests.engine.reference import empty_cache
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.config import CODEBOOKS
from tts_engine.kv_cache import KeyValueCache
from tts_engine.model_config import TransformerConfig
from tts_engine.networks.layers import Rotary, rotary_table

CPU = torch.device("cpu")
TOKENS = 70
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

Loaded = tuple[Checkpoint, Networks, torch.dtype]


@pytest.fixture(scope="module", params=["0b6-float64", "0b6-float32", "1b7-float64", "1b7-float32"])
def loaded(request: pytest.FixtureRequest, demo: Demo) -> Loaded:
    size, precision = request.param.split("-")
    checkpoint = Checkpoint.read(demo(size=size))
    dtype = getattr(torch, precision)
    return checkpoint, load_networks(checkpoint, CPU, dtype), dtype


def cache_for(config: TransformerConfig, slots: int, length: int, dtype: torch.dtype) -> KeyValueCache:
    """A cache whose every place holds garbage already."""
    cache = empty_cache(config, slots, length, dtype)
    cache.keys.fill_(50.0)
    cache.values.fill_(50.0)
    return cache


def some(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def talker_parts(loaded: Loaded, slots: int) -> tuple[KeyValueCache, Rotary]:
    checkpoint, _, dtype = loaded
    config = checkpoint.model.talker
    cache = cache_for(config, slots, 128, dtype)
    return cache, rotary_table(128, config.head_dim, config.rope_theta, CPU, dtype)


def prefilled(loaded: Loaded, prompt: Tensor, rotary: Rotary, split: int = 0) -> tuple[KeyValueCache, Tensor]:
    """A prompt (T, D) read into a cache of its own, its beginning before the rest; and its last hidden state."""
    checkpoint, networks, dtype = loaded
    cache = cache_for(checkpoint.model.talker, 1, len(prompt), dtype)
    if split:
        networks.talker.prefill(prompt[:split], rotary, cache, 0)
    return cache, networks.talker.prefill(prompt[split:], rotary, cache, split)


def enter(cache: KeyValueCache, slot: int, prompt: KeyValueCache) -> None:
    cache.load(slot, prompt.keys[:, 0], prompt.values[:, 0])


@torch.inference_mode()
@pytest.mark.parametrize("prompt", [1, 11, 69])
def test_a_prompt_and_steps_give_what_a_prefill_of_everything_gives(
    loaded: Loaded, prompt: int, figure: Figure
) -> None:
    checkpoint, networks, dtype = loaded
    cache, rotary = talker_parts(loaded, slots=2)
    inputs = some(TOKENS, checkpoint.model.talker.hidden, dtype=dtype)
    talker, worst = networks.talker, 0.0
    read, hidden = prefilled(loaded, inputs[:prompt], rotary)
    enter(cache, 0, read)
    for position in range(prompt, TOKENS):
        step = talker.step(inputs[position][None], rotary, cache, torch.tensor([position]), 128)
        _, full = prefilled(loaded, inputs[: position + 1], rotary)
        worst = max(worst, (step[0] - full).abs().max().item())
    assert torch.isfinite(hidden).all()
    figure(f"talker {checkpoint.model.size} cached == full, {dtype}, prompt {prompt}, max |error|", f"{worst:.1e}")
    assert worst <= TOLERANCE[dtype]


@torch.inference_mode()
@pytest.mark.parametrize("split", [1, 9, 32, TOKENS - 1])
def test_a_prompt_read_in_two_parts_gives_what_it_gives_at_once(loaded: Loaded, split: int, figure: Figure) -> None:
    checkpoint, _, dtype = loaded
    _, rotary = talker_parts(loaded, slots=1)
    inputs = some(TOKENS, checkpoint.model.talker.hidden, dtype=dtype, seed=4)
    (whole, at_once), (parts, in_two) = (prefilled(loaded, inputs, rotary, start) for start in (0, split))
    pairs = ((at_once, in_two), (whole.keys, parts.keys), (whole.values, parts.values))
    worst = max((one - other).abs().max().item() for one, other in pairs)
    figure(f"talker {checkpoint.model.size} prompt in two parts, {dtype}, {split} first, max |error|", f"{worst:.1e}")
    assert worst <= TOLERANCE[dtype]


@torch.inference_mode()
def test_a_loaded_slot_holds_the_prompt_and_the_others_keep_theirs(loaded: Loaded) -> None:
    checkpoint, _, dtype = loaded
    cache, rotary = talker_parts(loaded, slots=3)
    before = cache.keys.clone(), cache.values.clone()
    read, _ = prefilled(loaded, some(20, checkpoint.model.talker.hidden, dtype=dtype), rotary)
    enter(cache, 1, read)
    for storage, kept, given in zip((cache.keys, cache.values), before, (read.keys, read.values), strict=True):
        assert torch.equal(storage[:, 1, :, :20], given[:, 0])
        assert torch.equal(storage[:, 1, :, 20:], kept[:, 1, :, 20:])
        assert torch.equal(storage[:, [0, 2]], kept[:, [0, 2]])


@torch.inference_mode()
def test_rows_at_different_positions_step_as_each_does_alone(loaded: Loaded) -> None:
    checkpoint, networks, dtype = loaded
    talker, width = networks.talker, checkpoint.model.talker.hidden
    lengths = (5, 40, 17)
    prompts = [some(length, width, dtype=dtype, seed=length) for length in lengths]
    cache, rotary = talker_parts(loaded, slots=3)
    alone_cache, _ = talker_parts(loaded, slots=1)
    read = [prefilled(loaded, prompt, rotary)[0] for prompt in prompts]
    for slot, prompt in enumerate(read):
        enter(cache, slot, prompt)
    inputs = some(10, 3, width, dtype=dtype, seed=9)
    together = [talker.step(x, rotary, cache, torch.tensor(lengths) + number, 64) for number, x in enumerate(inputs)]
    for slot, prompt in enumerate(read):
        enter(alone_cache, 0, prompt)
        for number, x in enumerate(inputs):
            alone = talker.step(x[slot][None], rotary, alone_cache, torch.tensor([lengths[slot] + number]), 128)
            assert (alone[0] - together[number][slot]).abs().max() <= TOLERANCE[dtype]


@torch.inference_mode()
def test_a_moved_slot_steps_as_if_it_had_not_moved(loaded: Loaded) -> None:
    checkpoint, networks, dtype = loaded
    talker, width = networks.talker, checkpoint.model.talker.hidden
    cache, rotary = talker_parts(loaded, slots=3)
    prompt, x = some(20, width, dtype=dtype), some(1, width, dtype=dtype, seed=1)
    read, _ = prefilled(loaded, prompt, rotary)
    enter(cache, 0, read)
    expected = talker.step(x, rotary, cache, torch.tensor([20]), 64)
    enter(cache, 2, read)
    enter(cache, 0, prefilled(loaded, some(33, width, dtype=dtype, seed=2), rotary)[0])
    cache.load(0, cache.keys[:, 2, :, :20], cache.values[:, 2, :, :20])
    assert torch.equal(expected, talker.step(x, rotary, cache, torch.tensor([20]), 64))


class _Greedy:
    """Picks the best code and keeps the scores it saw."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []

    def __call__(self, scores: Tensor, codebook: int) -> Tensor:
        assert codebook == len(self.scores) + 1
        self.scores.append(scores)
        return scores.argmax(-1)


@torch.inference_mode()
def test_the_code_predictors_scores_are_those_of_one_pass_over_all_codes(loaded: Loaded) -> None:
    checkpoint, networks, dtype = loaded
    config, predictor = checkpoint.model, networks.predictor
    hidden, first = some(4, config.talker.hidden, dtype=dtype), torch.tensor([3, 0, 63, 20])
    picked = _Greedy()
    codes = predictor.predict(hidden, first, cache_for(config.predictor, 4, CODEBOOKS, dtype), picked)
    inputs = [predictor.project(hidden), F.embedding(first, predictor.first_inputs)]
    inputs += [F.embedding(codes[:, book], predictor.inputs[book - 1]) for book in range(1, CODEBOOKS - 1)]
    view = cache_for(config.predictor, 4, CODEBOOKS, dtype).span(slice(0, 4), 0)
    mask = torch.ones(CODEBOOKS, CODEBOOKS, dtype=torch.bool).tril()
    out = predictor.stack.forward(torch.stack(inputs, 1), predictor.rotary.span(0, CODEBOOKS), view, mask)
    for book in range(1, CODEBOOKS):
        full = predictor.heads[book - 1](out[:, book])
        assert (full - picked.scores[book - 1]).abs().max() <= TOLERANCE[dtype]


@torch.inference_mode()
def test_the_code_predictors_codes_do_not_depend_on_the_other_rows(loaded: Loaded) -> None:
    checkpoint, networks, dtype = loaded
    config, predictor = checkpoint.model, networks.predictor
    hidden = some(5, config.talker.hidden, dtype=dtype, seed=3)
    first = torch.tensor([0, 63, 7, 7, config.ids.codec_eos])  # the last row has ended
    cache = cache_for(config.predictor, 5, CODEBOOKS, dtype)
    together = predictor.predict(hidden, first, cache, _Greedy())
    for row in range(5):
        alone = predictor.predict(hidden[row : row + 1], first[row : row + 1], cache, _Greedy())
        assert torch.equal(alone[0], together[row])
    assert together.shape == (5, CODEBOOKS)
    assert torch.equal(together[:, 0], first)
