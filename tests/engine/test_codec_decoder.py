"""The codec decoder's law: however a stream is cut into calls, and whatever shares the batch, the sound is the same."""

import itertools
import random
from collections.abc import Collection

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import Figure
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.config import CODEBOOKS, SAMPLES_PER_FRAME
from tts_engine.networks.codec_decoder import CodecDecoder
from tts_engine.networks.codec_state import CodecState

FRAMES = 400


@pytest.fixture(scope="module")
def codec(checkpoint: Checkpoint) -> CodecDecoder:
    return load_networks(checkpoint, torch.device("cpu"), torch.float32).codec


def some_codes(rows: int, frames: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 64, (rows, CODEBOOKS, frames), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def whole(codec: CodecDecoder) -> Tensor:
    """Two streams of 400 frames, each decoded in one call."""
    return decode(codec, some_codes(2, FRAMES), codec.allocate(2, frames_per_call=FRAMES))


@torch.inference_mode()
def decode(codec: CodecDecoder, codes: Tensor, state: CodecState, held: Collection[int] = ()) -> Tensor:
    """One call, in which the streams in `held` are to stay as they are."""
    nobody = state.frames.shape[0] - 1
    return codec.decode(codes, state, torch.tensor([nobody if b in held else b for b in range(codes.shape[0])]))


def stream(codec: CodecDecoder, codes: Tensor, sizes: list[int], state: CodecState) -> Tensor:
    pieces = torch.split(codes, sizes, dim=2)
    return torch.cat([decode(codec, piece, state) for piece in pieces], dim=1)


def parts(state: CodecState, slot: int) -> list[Tensor]:
    """Everything that is remembered of a slot, also what no frame looks at any more."""
    return [state.frames[slot], state.keys[:, slot], state.values[:, slot], *(tail[slot] for tail in state.tails)]


def remembered(state: CodecState, slot: int) -> list[Tensor]:
    """A copy of what later frames of a slot may look at."""
    kept = state.take(slot)
    return [torch.tensor(kept.frames), kept.keys, kept.values, kept.tails]


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


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
    before, after = (decode(codec, c, codec.allocate(1, 60)) for c in (codes, changed))
    differs = (before != after).nonzero()[:, 1]
    assert differs.min() >= 40 * SAMPLES_PER_FRAME


def test_more_frames_than_the_state_was_made_for_are_refused(codec: CodecDecoder) -> None:
    with pytest.raises(AssertionError, match="more frames"):
        decode(codec, some_codes(1, 3), codec.allocate(1, frames_per_call=2))


def test_a_slot_is_untouched_by_garbage_in_the_others(codec: CodecDecoder) -> None:
    codes = some_codes(3, 90, seed=4)
    clean, dirty = codec.allocate(3, 1), codec.allocate(3, 1)
    for slot in (0, 2):
        for tensor in parts(dirty, slot)[1:]:
            tensor.fill_(torch.nan)
        dirty.frames[slot] = 12_345
    calm, poisoned = (stream(codec, codes, [1] * 90, state) for state in (clean, dirty))
    assert torch.isnan(poisoned[0]).any()
    assert torch.equal(calm[1], poisoned[1])


def test_a_slot_beyond_the_rows_of_a_call_keeps_its_state(codec: CodecDecoder) -> None:
    state = codec.allocate(2, 1)
    stream(codec, some_codes(2, 5), [1] * 5, state)
    kept = [tensor.clone() for tensor in parts(state, 1)]
    stream(codec, some_codes(1, 5), [1] * 5, state)
    assert alike(kept, parts(state, 1))


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


def test_a_reset_slot_forgets_even_what_is_not_a_number(codec: CodecDecoder) -> None:
    state = codec.allocate(1, 1)
    for tensor in parts(state, 0)[1:]:
        tensor.fill_(torch.nan)
    state.reset(0)
    assert torch.equal(decode(codec, some_codes(1, 1), state), decode(codec, some_codes(1, 1), codec.allocate(1, 1)))


# Streams that are held.

ROUNDS = 90
HELD = st.lists(st.sets(st.integers(0, 3), max_size=4), min_size=1, max_size=12)


@given(pattern=HELD, begun=st.integers(0, 80), seed=st.integers(0, 2**32))
@settings(max_examples=25)
def test_whoever_is_held_when_each_stream_says_what_it_says_unheld(
    codec: CodecDecoder, pattern: list[set[int]], begun: int, seed: int
) -> None:
    codes = some_codes(4, ROUNDS + 80, seed)
    state = codec.allocate(4, 1)
    whole = decode(codec, codes, codec.allocate(4, ROUNDS + 80))
    if begun:
        stream(codec, codes[..., :begun], [1] * begun, state)
    at = [begun] * 4
    for held in pattern:
        kept = {slot: remembered(state, slot) for slot in held}
        now = torch.stack([codes[slot, :, at[slot]] for slot in range(4)])[..., None]
        now[list(held)] = 63 - now[list(held)]  # what a held row is given does not matter
        sound = decode(codec, now, state, held)
        assert all(alike(kept[slot], remembered(state, slot)) for slot in held)
        for slot in set(range(4)) - held:
            heard = whole[slot, at[slot] * SAMPLES_PER_FRAME :][:SAMPLES_PER_FRAME]
            assert (sound[slot] - heard).abs().max() <= 1e-5
            at[slot] += 1


def test_a_stream_held_for_longer_than_its_window_goes_on_as_if_it_had_not_been(codec: CodecDecoder) -> None:
    codes = some_codes(2, 180, seed=9)
    state, free = codec.allocate(2, 1), codec.allocate(2, 1)
    for some_state in (state, free):
        stream(codec, codes[..., :75], [1] * 75, some_state)
    kept = remembered(state, 0)
    for number in range(75, 175):
        decode(codec, codes[..., number : number + 1], state, held={0})
    assert alike(kept, remembered(state, 0))
    rest = codes[..., 75:80]
    assert torch.equal(stream(codec, rest, [1] * 5, state)[0], stream(codec, rest, [1] * 5, free)[0])


# Streams that are taken out and put back.


@pytest.mark.parametrize("frames", [0, 1, 70, 71, 72, 73, 160])
@pytest.mark.parametrize(("calls_before", "calls_after"), [(1, 1), (64, 1), (1, 7), (64, 3)])
def test_a_stream_put_into_a_state_of_another_size_goes_on_as_if_nothing_had_happened(
    codec: CodecDecoder, frames: int, calls_before: int, calls_after: int
) -> None:
    codes = some_codes(1, frames + 40, seed=10)
    whole = decode(codec, codes, codec.allocate(1, frames + 40))[0]
    first, second = codec.allocate(1, calls_before), codec.allocate(3, calls_after)
    for piece in torch.split(codes[..., :frames], calls_before, dim=2) if frames else ():
        decode(codec, piece, first)
    stream(codec, some_codes(3, 100, seed=11), [1] * 100, second)
    others = [tensor.clone() for slot in (0, 2) for tensor in parts(second, slot)]
    second.put(1, first.take(0))
    assert alike(others, [tensor for slot in (0, 2) for tensor in parts(second, slot)])
    pieces = torch.split(codes[..., frames:], calls_after, dim=2)
    sound = torch.cat([decode(codec, piece.expand(3, -1, -1), second)[1] for piece in pieces])
    assert (sound - whole[frames * SAMPLES_PER_FRAME :]).abs().max() <= 1e-5


def test_a_snapshot_is_a_copy_of_all_that_is_remembered(codec: CodecDecoder) -> None:
    state, other = codec.allocate(2, 1), codec.allocate(2, 9)
    stream(codec, some_codes(2, 90, seed=12), [1] * 90, state)
    taken = state.take(1)
    before = remembered(state, 1)
    stream(codec, some_codes(2, 3, seed=13), [1] * 3, state)
    assert alike(before, [torch.tensor(taken.frames), taken.keys, taken.values, taken.tails])
    other.put(0, taken)
    assert alike(before, remembered(other, 0))
    assert taken.nbytes == sum(tensor.nbytes for tensor in before[1:])


def test_a_stream_put_where_numbers_had_been_lost_is_whole(codec: CodecDecoder) -> None:
    clean, dirty = codec.allocate(1, 1), codec.allocate(1, 1)
    stream(codec, some_codes(1, 3), [1] * 3, clean)
    for tensor in parts(dirty, 0)[1:]:
        tensor.fill_(torch.nan)
    dirty.put(0, clean.take(0))
    assert torch.equal(decode(codec, some_codes(1, 1), clean), decode(codec, some_codes(1, 1), dirty))
