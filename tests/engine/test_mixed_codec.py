"""The codec in mixed precision: how far its sound is from the precise one, and that its laws hold up to rounding."""

import math

import pytest
import torch
from torch import Tensor

from tests.conftest import Figure
from tts_engine import SettingsError
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.config import CODEBOOKS, SAMPLES_PER_FRAME
from tts_engine.devices import codec_is_mixed
from tts_engine.networks.codec_decoder import CodecDecoder
from tts_engine.networks.codec_layers import SnakeBeta

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
FRAMES = 60
# A number that lies between two of bfloat16 may fall to either where sums are made in another order.
ROUNDING_DB = 45.0


@pytest.fixture(scope="module")
def precise(checkpoint: Checkpoint) -> CodecDecoder:
    return load_networks(checkpoint, CPU, torch.float32).codec


@pytest.fixture(scope="module")
def mixed(checkpoint: Checkpoint) -> CodecDecoder:
    return load_networks(checkpoint, CPU, torch.float32, mixed_codec=True).codec


def some_codes(rows: int) -> Tensor:
    return torch.randint(0, 64, (rows, CODEBOOKS, FRAMES), generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def decoded(codec: CodecDecoder, codes: Tensor, frames_per_call: int) -> Tensor:
    rows = codes.shape[0]
    state = codec.allocate(rows, frames_per_call)
    return torch.cat([codec.decode(part, state, torch.arange(rows)) for part in codes.split(frames_per_call, 2)], 1)


def below_the_sound(made: Tensor, sound: Tensor) -> float:
    """How far the difference lies below the sound, in dB."""
    error = (made - sound).double().square().sum().item()
    return math.inf if error == 0 else 10 * math.log10(sound.double().square().sum().item() / error)


def test_it_is_off_by_noise_forty_decibels_below_the_sound(
    precise: CodecDecoder, mixed: CodecDecoder, figure: Figure
) -> None:
    sound, made = (decoded(codec, some_codes(2), FRAMES) for codec in (precise, mixed))
    figure("codec in mixed precision, noise below the sound", f"{below_the_sound(made, sound):.1f} dB")
    assert 40 < below_the_sound(made, sound) < 90
    assert made.dtype == torch.float32


@pytest.mark.parametrize("frames_per_call", [1, 7])
def test_streamed_is_whole_up_to_rounding(mixed: CodecDecoder, frames_per_call: int, figure: Figure) -> None:
    whole, streamed = decoded(mixed, some_codes(2), FRAMES), decoded(mixed, some_codes(2), frames_per_call)
    apart = below_the_sound(streamed, whole)
    figure(f"mixed codec, streamed {frames_per_call} a call == whole, difference below the sound", f"{apart:.1f} dB")
    assert apart > ROUNDING_DB


def test_a_stream_in_company_is_the_stream_alone_up_to_rounding(mixed: CodecDecoder, figure: Figure) -> None:
    codes = some_codes(5)
    together = decoded(mixed, codes, 1)
    apart = min(below_the_sound(together[row], decoded(mixed, codes[row : row + 1], 1)[0]) for row in range(5))
    figure("mixed codec, in company == alone, difference below the sound", f"{apart:.1f} dB")
    assert apart > ROUNDING_DB


def test_a_frame_changes_nothing_that_was_said_before_it(mixed: CodecDecoder) -> None:
    codes = some_codes(1)
    changed = codes.clone()
    changed[..., 40] = (changed[..., 40] + 1) % 64
    before, after = (decoded(mixed, c, 1) for c in (codes, changed))
    assert (before != after).nonzero()[:, 1].min() >= 40 * SAMPLES_PER_FRAME


def test_what_a_slot_holds_of_a_stream_is_as_wide_as_without(precise: CodecDecoder, mixed: CodecDecoder) -> None:
    assert mixed.slot_bytes(1) == precise.slot_bytes(1)
    assert {tail.dtype for tail in mixed.allocate(1, 1).tails} == {torch.float32}


def test_no_angle_however_large_makes_what_is_not_a_number() -> None:
    snake = SnakeBeta(alpha=torch.tensor([1.0, 1e9]), root=torch.tensor([0.5, 0.5]), mixed=True)
    x = torch.tensor([[[3e5, 1e3], [-3e38, 1e30], [0.5, 0.0]]])
    made = snake(x)
    assert made.isfinite().all()
    assert ((made - x).abs() <= 0.25 + 1e-6 * x.abs()).all()
    assert made[0, 2].tolist() == pytest.approx([0.5 + 0.25 * math.sin(0.5) ** 2, 0.0], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "device", "dtype", "expected"),
    [
        ("auto", CPU, torch.bfloat16, True),
        ("auto", CPU, torch.float32, False),
        ("auto", CPU, torch.float64, False),
        ("auto", GPU, torch.bfloat16, False),
        ("float32", CPU, torch.bfloat16, False),
        ("bfloat16", CPU, torch.float32, True),
    ],
)
def test_auto_is_mixed_where_a_cpu_multiplies_bfloat16_anyway(
    name: str, device: torch.device, dtype: torch.dtype, expected: bool
) -> None:
    assert codec_is_mixed(name, device, dtype) is expected


@pytest.mark.parametrize(("device", "dtype"), [(GPU, torch.bfloat16), (CPU, torch.float64)])
def test_a_precision_that_cannot_be_is_refused(device: torch.device, dtype: torch.dtype) -> None:
    with pytest.raises(SettingsError, match="codec_precision bfloat16 is for a CPU"):
        codec_is_mixed("bfloat16", device, dtype)
