"""Sound as numbers: conversion, resampling, what may be cloned, and the mel spectrogram against plain formulas."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tts_engine import InvalidRequest, audio

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
Array = npt.NDArray[np.float64]


def tone(hertz: float, rate: int, seconds: float = 2.0, amplitude: float = 0.5) -> audio.Samples:
    times = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def noise(length: int, seed: int = 0) -> audio.Samples:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, length).astype(np.float32)


# 16-bit PCM.


def test_full_scale_and_silence_become_whole_steps() -> None:
    pcm = audio.to_pcm16(torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))
    assert pcm.dtype == torch.int16
    assert pcm.tolist() == [-32767, -16384, 0, 16384, 32767]


@given(st.floats(-1, 1))
def test_no_sample_is_further_than_half_a_step_from_its_sound(value: float) -> None:
    pcm = int(audio.to_pcm16(torch.tensor([value], dtype=torch.float64))[0])
    assert abs(pcm - value * audio.PCM_SCALE) <= 0.5


# Resampling.


@given(st.integers(1, 5_000), st.sampled_from(RATES), st.sampled_from(RATES))
def test_resampling_keeps_the_duration_and_rounds_up_as_librosa_does(length: int, source: int, target: int) -> None:
    made = audio.resample(noise(length), source, target)
    assert made.dtype == np.float32
    assert made.shape == (math.ceil(length * (target / source)),)
    assert 0 <= len(made) - length * target / source < 2
    assert np.isfinite(made).all()


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    samples = noise(1_000)
    assert np.array_equal(audio.resample(samples, 24_000, 24_000), samples)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_pitch_phase_and_level_at_any_rate(rate: int) -> None:
    made = audio.resample(tone(440, rate), rate, 24_000)
    inner = slice(2_400, -2_400)
    assert np.abs(made[:48_000][inner] - tone(440, 24_000)[inner]).max() < 2e-3


def test_what_the_lower_rate_cannot_hold_is_taken_out() -> None:
    made = audio.resample(tone(15_000, 48_000), 48_000, 24_000)
    assert np.abs(made[2_400:-2_400]).max() < 1e-3


# What may be cloned.


@pytest.mark.parametrize("rate", [0, -24_000, 7_999, 192_001])
def test_a_sample_rate_beyond_the_limits_is_refused_with_both(rate: int) -> None:
    with pytest.raises(InvalidRequest, match=f"from 8000 to 192000 Hz, got {rate}"):
        audio.reference_samples(noise(48_000), rate)


@pytest.mark.parametrize("rate", RATES)
def test_a_recording_of_any_usual_rate_comes_out_at_24_khz(rate: int) -> None:
    ready = audio.reference_samples(tone(300, rate), rate)
    assert ready.dtype == np.float32
    assert len(ready) in (48_000, 48_001)


@pytest.mark.parametrize(("length", "fits"), [(23_999, False), (24_000, True), (720_000, True), (720_001, False)])
def test_the_limits_of_length_are_part_of_what_fits(length: int, fits: bool) -> None:
    if fits:
        assert len(audio.reference_samples(noise(length), 24_000)) == length
    else:
        with pytest.raises(InvalidRequest, match=r"lasts \d+\.\d\d s; it must last from 1 to 30 s"):
            audio.reference_samples(noise(length), 24_000)


def test_no_samples_at_all_are_too_short() -> None:
    for empty in (np.zeros(0, np.float32), np.zeros((0, 2), np.float32)):
        with pytest.raises(InvalidRequest, match=r"lasts 0\.00 s"):
            audio.reference_samples(empty, 24_000)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_mixed_by_their_mean(channels: int) -> None:
    many = noise(48_000 * channels).reshape(-1, channels)
    assert np.allclose(audio.reference_samples(many, 24_000), many.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("channels", [None, 2])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(value: float, channels: int | None) -> None:
    samples = noise(48_000) if channels is None else noise(48_000 * channels).reshape(-1, channels)
    samples[20_000] = value
    with pytest.raises(InvalidRequest, match="not finite"):
        audio.reference_samples(samples, 24_000)


@pytest.mark.parametrize("peak", [0.0, 9e-4])
def test_silence_is_refused(peak: float) -> None:
    with pytest.raises(InvalidRequest, match=r"silent: its peak is .*, the least is 0\.001"):
        audio.reference_samples(tone(440, 24_000, amplitude=peak), 24_000)


def test_a_recording_given_in_double_precision_is_taken_as_well() -> None:
    samples = noise(48_000)
    assert np.array_equal(audio.reference_samples(samples.astype(np.float64), 24_000), samples)


def test_the_clipped_share_counts_both_ends_of_the_scale() -> None:
    assert audio.clipped_share(np.array([1.0, -1.0, 0.5, 0.9985], dtype=np.float32)) == 0.5


# The mel spectrogram, by the formulas in the plainest form, in double precision.


def plain_mel(hertz: float) -> float:
    """Slaney's scale: 200/3 Hz a step up to 1 kHz, above it 27 steps for each factor 6.4."""
    return 3 * hertz / 200 if hertz < 1_000 else 15 + 27 * math.log(hertz / 1_000, 6.4)


def plain_hertz(mel: float) -> float:
    return 200 * mel / 3 if mel < 15 else 1_000 * 6.4 ** ((mel - 15) / 27)


def plain_bank() -> Array:
    edges = [plain_hertz(plain_mel(12_000) * step / 129) for step in range(130)]
    bank = np.zeros((128, 513))
    for row, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for column in range(513):
            hertz = column * 24_000 / 1_024
            if left < hertz <= centre:
                bank[row, column] = (hertz - left) / (centre - left)
            elif centre < hertz < right:
                bank[row, column] = (right - hertz) / (right - centre)
        bank[row] *= 2 / (right - left)
    return bank


def plain_log_mel(samples: Array) -> Array:
    """(T, 128): each window's discrete Fourier transform as a sum of products."""
    padded = np.concatenate([samples[384:0:-1], samples, samples[-2:-386:-1]])
    steps = np.arange(1_024)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * steps / 1_024)
    waves = np.exp(-2j * np.pi * np.outer(steps, np.arange(513)) / 1_024)
    starts = range(0, len(padded) - 1_024 + 1, 256)
    spectrum = np.stack([padded[start : start + 1_024] * window for start in starts]) @ waves
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
    return np.log(np.maximum(1e-5, magnitude @ plain_bank().T))


@pytest.mark.parametrize("length", [1_024, 5_000, 24_000, 24_001, 36_223])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-3)])
def test_the_mel_spectrogram_is_what_the_formulas_say(length: int, dtype: torch.dtype, tolerance: float) -> None:
    samples = noise(length, seed=length) * np.linspace(0, 1, length) + tone(220, 24_000, length / 24_000)
    made = audio.mel_spectrogram(torch.from_numpy(samples).to(dtype))
    expected = plain_log_mel(samples.astype(np.float64))
    assert made.dtype == dtype
    assert made.shape == expected.shape == (length // 256, 128)
    assert np.abs(made.numpy() - expected).max() < tolerance


def test_silence_stays_at_the_floor() -> None:
    made = audio.mel_spectrogram(torch.zeros(24_000))
    # The magnitude of nothing is sqrt(1e-9), which the smallest filters still weigh above the clamp.
    assert torch.equal(made, made[:1].expand_as(made))
    assert made.min() >= math.log(1e-5) - 1e-6


@pytest.mark.parametrize("row", [5, 40, 80, 127])
def test_a_tone_is_strongest_in_the_filter_around_it(row: int) -> None:
    centre = plain_hertz(plain_mel(12_000) * (row + 1) / 129)
    made = audio.mel_spectrogram(torch.from_numpy(tone(centre, 24_000)))
    assert abs(int(made[50].argmax()) - row) <= (1 if row < 10 else 0)


def test_the_filters_are_triangles_of_unit_area_that_share_every_frequency() -> None:
    bank = audio._mel_bank()
    assert (bank.shape, bank.dtype) == ((128, 513), np.float32)
    assert np.allclose(bank, plain_bank(), rtol=1e-4, atol=1e-8)
    assert (bank >= 0).all()
    assert (bank.max(axis=1) > 0).all()
    assert (np.diff(bank.argmax(axis=1)) >= 0).all()
    hertz_per_bin = 24_000 / 1_024
    assert np.allclose(bank[60:].sum(axis=1) * hertz_per_bin, 1, atol=0.04)
    edges = np.array([plain_hertz(plain_mel(12_000) * step / 129) for step in range(130)])
    triangles = bank * ((edges[2:] - edges[:-2]) / 2)[:, None]
    bins = np.arange(513) * hertz_per_bin
    inside = (bins >= edges[1]) & (bins <= edges[-2])
    assert np.allclose(triangles.sum(axis=0)[inside], 1, atol=1e-4)
