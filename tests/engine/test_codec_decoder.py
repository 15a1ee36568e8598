"""The codec decoder's law: however a stream is cut into calls, and whatever shares the batch, the sound is the same."""

import itertools
import random

import pytest
import torch
from torch import Tensor

from tests.conftest import Figure
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.config import CODEBOOKS, SAMPLES_PER_FRAME
from tts_engine.networks.codec_decoder import CodecDecoder, CodecState

FRAMES = 400


@pytest.fixture(scope="module")
def codec(checkpoint: Checkpoint) -> CodecDecoder:
    return load_networks(checkpoint, torch.device("cpu"), torch.float32).codec


def some_codes(rows: int, frames: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 64, (rows, CODEBOOKS, frames), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def whole(codec: CodecDecoder) -> Tensor:
    """Two streams of 400 frames, each decoded in one call."""
    return codec.decode(some_codes(2, FRAMES), codec.allocate(2, frames_per_call=FRAMES))


def stream(codec: CodecDecoder, codes: Tensor, sizes: list[int], state: CodecState) -> Tensor:
    pieces = torch.split(codes, sizes, dim=2)
    return torch.cat([codec.decode(piece, state) for piece in pieces], dim=1)


def equal_calls(frames_per_call: int) -> list[int]:
    full, rest = divmod(FRAMES, frames_per_call)
    return [frames_per_call] * full + ([rest] if rest else [])


def random_calls(seed: int) -> list[int]:
    draw = random.Random(seed)
    cuts = sorted(draw.sample(range(1, FRAMES), 60))
    return [end - start for start, end in itertools.pairwise([0, *cuts, FRAMES])]


@pytest.mark.parametrize("frames_per_call", [1, 2, 3, 7])
def test_streamed_equals_whole(codec: CodecDecoder, whole: Tensor, frames_per_call: int, figure: Figure) -> None:
    state = codec.allocate(2, frames_per_call)
    streamed = stream(codec, some_codes(2, FRAMES), equal_calls(frames_per_call), state)
    error = (streamed - whole).abs().max().item()
    figure(f"codec streamed == whole, {FRAMES} frames, {frames_per_call} a call, max |error|", f"{error:.1e}")
    assert streamed.shape == (2, FRAMES * SAMPLES_PER_FRAME)
    assert error <= 1e-5


@pytest.mark.parametrize("seed", [1, 2])
def test_streamed_in_random_pieces_equals_whole(codec: CodecDecoder, whole: Tensor, seed: int, figure: Figure) -> None:
    sizes = random_calls(seed)
    streamed = stream(codec, some_codes(2, FRAMES), sizes, codec.allocate(2, max(sizes)))
    error = (streamed - whole).abs().max().item()
    figure(f"codec streamed == whole, {FRAMES} frames in random pieces ({seed}), max |error|", f"{error:.1e}")
    assert error <= 1e-5


def test_the_sound_is_loud_enough_for_the_comparison_to_mean_something(whole: Tensor) -> None:
    assert whole.square().mean().sqrt() > 0.02
    assert (whole.abs() < 1).float().mean() > 0.99


def test_a_frame_changes_nothing_that_was_said_before_it(codec: CodecDecoder) -> None:
    codes = some_codes(1, 60)
    changed = codes.clone()
    changed[..., 40] = (changed[..., 40] + 1) % 64
    before, after = (codec.decode(c, codec.allocate(1, 60)) for c in (codes, changed))
    differs = (before != after).nonzero()[:, 1]
    assert differs.min() >= 40 * SAMPLES_PER_FRAME


def test_more_frames_than_the_state_was_made_for_are_refused(codec: CodecDecoder) -> None:
    with pytest.raises(AssertionError, match="more frames"):
        codec.decode(some_codes(1, 3), codec.allocate(1, frames_per_call=2))


def test_a_slot_is_untouched_by_garbage_in_the_others(codec: CodecDecoder) -> None:
    codes = some_codes(3, 90, seed=4)
    clean, dirty = codec.allocate(3, 1), codec.allocate(3, 1)
    for slot in (0, 2):
        for tensor in (*dirty.tails, dirty.keys.transpose(0, 1), dirty.values.transpose(0, 1)):
            tensor[slot] = torch.nan
        dirty.frames[slot] = 12_345
    calm, poisoned = (stream(codec, codes, [1] * 90, state) for state in (clean, dirty))
    assert torch.isnan(poisoned[0]).any()
    assert torch.equal(calm[1], poisoned[1])


def test_a_slot_beyond_the_rows_of_a_call_keeps_its_state(codec: CodecDecoder) -> None:
    state = codec.allocate(2, 1)
    stream(codec, some_codes(2, 5), [1] * 5, state)
    kept = [tensor[1].clone() for tensor in (state.frames, *state.tails, state.keys.transpose(0, 1))]
    stream(codec, some_codes(1, 5), [1] * 5, state)
    assert all(
        torch.equal(old, tensor[1])
        for old, tensor in zip(kept, (state.frames, *state.tails, state.keys.transpose(0, 1)), strict=True)
    )


def test_a_moved_stream_goes_on_as_if_it_had_not_moved(codec: CodecDecoder) -> None:
    codes, garbage = some_codes(3, 160, seed=5), some_codes(3, 100, seed=6)
    stayed, moved = codec.allocate(3, 1), codec.allocate(3, 1)
    stream(codec, garbage, [1] * 100, moved)
    for slot in range(3):
        moved.reset(slot)
    for state in (stayed, moved):
        stream(codec, codes[..., :80], [1] * 80, state)
    moved.move(2, 0)
    rest = codes[..., 80:]
    expected = stream(codec, rest, [1] * 80, stayed)[2]
    heard = stream(codec, torch.stack((rest[2], rest[1])), [1] * 80, moved)[0]
    assert (expected - heard).abs().max() <= 1e-6


def test_a_reset_slot_remembers_nothing(codec: CodecDecoder) -> None:
    codes, garbage = some_codes(2, 100, seed=7), some_codes(2, 130, seed=8)
    used, fresh = codec.allocate(2, 1), codec.allocate(2, 1)
    stream(codec, garbage, [1] * 130, used)
    used.reset(0)
    again, first = stream(codec, codes, [1] * 100, used), stream(codec, codes, [1] * 100, fresh)
    assert torch.equal(again[0], first[0])
    assert not torch.equal(again[1], first[1])
