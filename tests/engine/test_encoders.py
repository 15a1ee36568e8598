"""The codec encoder and the speaker encoder: shapes, what they may hear, and precision, on random weights."""

import numpy as np
import pytest
import torch

from tests.conftest import Demo
from tests.engine.sounds import hum
from tts_engine import SAMPLES_PER_FRAME
from tts_engine.audio import mel_spectrogram, reference_samples
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.errors import InvalidRequest
from tts_engine.manifests import Reference
from tts_engine.voice_encoder import EncodedVoice, VoiceEncoder, VoiceNetworks

CPU = torch.device("cpu")
PLENTY = 1 << 30


def networks(demo: Demo, dtype: torch.dtype = torch.float32, size: str = "0b6") -> VoiceNetworks:
    voices = load_networks(Checkpoint.read(demo(model_type="base", size=size)), CPU, dtype).voices
    assert voices is not None
    return voices


def encode(voices: VoiceNetworks, reference: Reference) -> EncodedVoice:
    encoder = VoiceEncoder(voices, CPU, capacity=PLENTY, max_waiting=8)
    try:
        return encoder.encode(reference).result()
    finally:
        encoder.close()


@pytest.mark.parametrize("samples", [24_000, 24_001, 26_880, 26_881, 28_799, 28_800])
def test_a_recording_has_as_many_frames_as_begin_in_it(demo: Demo, samples: int) -> None:
    reference = Reference.of(hum(1.3)[:samples], 24_000, "Words.")
    voice = encode(networks(demo), reference)
    assert voice.codes is not None
    assert voice.codes.shape == (-(-samples // SAMPLES_PER_FRAME), 16)
    assert len(voice.codes) == reference.frames


@torch.inference_mode()
def test_codes_do_not_depend_on_what_comes_later(demo: Demo) -> None:
    encoder, sound = networks(demo).codec_encoder, torch.from_numpy(hum(2.0))
    changed = sound.clone()
    changed[12 * SAMPLES_PER_FRAME :] = torch.from_numpy(hum(2.0, seed=1))[12 * SAMPLES_PER_FRAME :]
    one, other = encoder.encode(sound), encoder.encode(changed)
    assert torch.equal(one[:12], other[:12])
    assert not torch.equal(one[12:], other[12:])


@torch.inference_mode()
@pytest.mark.parametrize("size", ["0b6", "1b7"])
def test_the_vector_hears_the_whole_recording_and_is_as_wide_as_the_talker(demo: Demo, size: str) -> None:
    speaker = networks(demo, size=size).speaker_encoder
    talker = Checkpoint.read(demo(model_type="base", size=size)).model.talker
    sound = torch.from_numpy(hum(2.0))
    louder_at_the_end = sound.clone()
    louder_at_the_end[-2_000:] *= 3
    one, other = (speaker.embed(mel_spectrogram(x)) for x in (sound, louder_at_the_end))
    assert one.shape == (talker.hidden,)
    assert (one - other).abs().max() > 1e-3


@torch.inference_mode()
def test_a_mel_spectrogram_has_128_bands_every_256_samples_and_finds_a_tone(demo: Demo) -> None:
    tone = torch.sin(2 * torch.pi * 3_000 / 24_000 * torch.arange(24_000))
    mel = mel_spectrogram(tone)
    assert mel.shape == (24_000 // 256, 128)
    edges = torch.linspace(0, 15 + np.log(12) / (np.log(6.4) / 27), 130)  # 12 kHz on Slaney's scale
    heard = int(mel.mean(0).argmax())
    assert edges[heard] <= 15 + np.log(3) / (np.log(6.4) / 27) <= edges[heard + 2]


def test_double_precision_makes_nearly_the_same_vector_and_codes(demo: Demo) -> None:
    reference = Reference.of(hum(2.0), 24_000, "Words.")
    single, double = (encode(networks(demo, dtype), reference) for dtype in (torch.float32, torch.float64))
    assert double.vector.dtype == torch.float64
    assert torch.allclose(single.vector.double(), double.vector, atol=1e-5)
    assert single.codes is not None
    assert double.codes is not None
    assert torch.equal(single.codes, double.codes)


@pytest.mark.parametrize("seconds", [1.0, 3.0, 5.8])
def test_the_state_kept_after_a_recording_is_that_of_hearing_it_frame_by_frame(demo: Demo, seconds: float) -> None:
    voices = networks(demo, torch.float64)
    voice = encode(voices, Reference.of(hum(seconds), 24_000, "Words."))
    assert voice.codes is not None
    assert voice.stream is not None
    decoder, here = voices.codec_decoder, torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        heard, restored = decoder.allocate(1, 1), decoder.allocate(1, 1)
        for frame in voice.codes:
            decoder.decode(frame[None, :, None], heard, here)
        restored.put(0, voice.stream)
        following = voice.codes[:1, :, None]
        one, other = (decoder.decode(following, state, here) for state in (heard, restored))
    assert torch.allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_the_same_sound_at_another_rate_is_the_same_voice(demo: Demo, rate: int) -> None:
    voices = networks(demo)

    def tone(rate: int) -> np.ndarray:
        moment = np.arange(2 * rate) / rate
        sound = 0.2 * sum(np.sin(2 * np.pi * 150 * n * moment) / n for n in range(1, 20))
        return np.asarray(sound, dtype=np.float32)

    one, other = (encode(voices, Reference.of(tone(r), r, None)).vector for r in (24_000, rate))
    assert torch.allclose(one, other, atol=0.05)


def test_two_channels_are_mixed_by_their_mean() -> None:
    left, right = hum(1.2, 1), hum(1.2, 2)
    mixed = reference_samples(np.stack((left, right), axis=1), 24_000)
    assert np.allclose(mixed, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("amplitude", [1e4, 1e12, 1e19, 3e38])
def test_a_recording_that_is_far_louder_than_full_scale_is_refused(amplitude: float) -> None:
    sound = hum(1.2)
    loud = (sound / np.abs(sound).max() * amplitude).astype(np.float32)
    with pytest.raises(InvalidRequest, match="peak"):
        Reference.of(loud, 24_000, None)
