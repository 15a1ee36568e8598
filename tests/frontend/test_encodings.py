"""Every format the frontend sends, decoded by somebody else's decoder: the length, the sound, the delay, the cuts."""

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from av.audio.frame import AudioFrame
from hypothesis import given
from hypothesis import strategies as st

from frontend import encodings
from frontend.encodings import (
    FILE_FORMATS,
    SOCKET_FORMATS,
    Encoder,
    UnsupportedFormat,
    make_encoder,
    make_file_encoder,
)
from frontend.errors import InvalidRequest
from frontend.synthesis import SAMPLE_RATE
from tests.conftest import Figure

Samples = npt.NDArray[np.int16]
Make = Callable[[], Encoder]

SOCKET = [
    pytest.param(lambda e=e, r=r: make_encoder(e, r), id=f"{e}-{r}") for e in SOCKET_FORMATS for r in SOCKET_FORMATS[e]
]
FILES = [
    pytest.param(lambda e=e, r=r: make_file_encoder(e, r), id=f"file-{e}-{r}")
    for e in FILE_FORMATS
    for r in FILE_FORMATS[e]
]
EVERY = SOCKET + FILES
CODEC_DELAY = {"mp3": 1_105, "aac": 1_024}
"""Samples by which a decoder hears a file without gapless information late."""


def sweep(seconds: float = 1.5) -> Samples:
    """A tone that rises from 150 Hz to 2 kHz, swelling and fading: no part of it looks like another."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (150 + 925 * time / max(seconds, 1e-9)) * time
    return (np.sin(phase) * np.sin(np.pi * time / max(seconds, 1e-9)) * 20_000).astype("<i2")


def encoded(encoder: Encoder, samples: Samples, cuts: Sequence[int] = ()) -> list[bytes]:
    """All that an encoder returns for the samples, cut at these places; a header is the first item."""
    edges = [0, *sorted(cuts), len(samples)]
    made = [encoder.start()]
    for begin, end in pairwise(edges):
        made += encoder.push(samples[begin:end].tobytes())
    return [portion for portion in made + encoder.finish() if portion]


def decoded_file(data: bytes) -> tuple[Samples, int]:
    """A file as FFmpeg's demuxers and decoders hear it, mono, and its sample rate."""
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono")
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].sample_rate


def decoded_packets(packets: Sequence[bytes], codec: str, rate: int) -> Samples:
    """Bare packets as FFmpeg's decoder of that name hears them."""
    context = av.CodecContext.create(codec, "r")
    context.sample_rate, context.layout = rate, "mono"  # type: ignore[union-attr]
    frames: list[AudioFrame] = []
    for packet in [*map(av.Packet, packets), None]:
        frames += context.decode(packet)  # type: ignore[union-attr, arg-type]
    resampler = av.AudioResampler(format="s16", layout="mono")
    return np.concatenate([out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)])


def delay_of(heard: Samples, said: Samples) -> int:
    """By how many samples the best match of `said` lies behind the beginning of `heard`."""
    size = 1 << int(np.ceil(np.log2(len(heard) + len(said))))
    match = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size)), size)
    return int(match[: len(said)].argmax())


def likeness(heard: Samples, said: Samples) -> float:
    """Signal to error in dB of the overlap."""
    length = min(len(heard), len(said))
    a, b = heard[:length].astype(float), said[:length].astype(float)
    return float(10 * np.log10((b**2).sum() / max(((a - b) ** 2).sum(), 1e-9)))


def at_rate(samples: Samples, rate: int) -> Samples:
    """The sweep as it would have been made at another rate, by interpolating its spectrum; far below both limits."""
    length = -(-len(samples) * rate // SAMPLE_RATE)
    made = np.fft.irfft(np.fft.rfft(samples), length) * length / len(samples)
    return made.round().astype(np.int16)


@pytest.mark.parametrize("rate", SOCKET_FORMATS["pcm_s16le"])
def test_pcm_is_the_same_sound_at_every_rate(rate: int) -> None:
    said = sweep()
    heard = np.frombuffer(b"".join(encoded(make_encoder("pcm_s16le", rate), said)), "<i2")
    assert len(heard) == -(-len(said) * rate // SAMPLE_RATE)
    assert likeness(heard, at_rate(said, rate)) > 75
    if rate == SAMPLE_RATE:
        assert np.array_equal(heard, said)


@pytest.mark.parametrize("rate", SOCKET_FORMATS["wav"])
def test_a_wav_is_a_header_of_unknown_length_and_then_the_pcm(rate: int) -> None:
    said = sweep()
    header, *rest = encoded(make_encoder("wav", rate), said, [4_000])
    assert (header[:4], header[8:16], len(header)) == (b"RIFF", b"WAVEfmt ", 44)
    assert header[4:8] == header[40:44] == b"\xff\xff\xff\xff"
    assert b"".join(rest) == b"".join(encoded(make_encoder("pcm_s16le", rate), said, [4_000]))
    assert header == make_file_encoder("wav", rate).start()
    with soundfile.SoundFile(io.BytesIO(header + b"".join(rest))) as file:
        assert (file.samplerate, file.channels, file.subtype) == (rate, 1, "PCM_16")
        assert np.array_equal(
            file.read(2 * len(said) * rate // SAMPLE_RATE, dtype="int16"), np.frombuffer(b"".join(rest), "<i2")
        )
    assert len(decoded_file(header + b"".join(rest))[0]) == len(b"".join(rest)) // 2


def mulaw_decoded(codes: bytes) -> npt.NDArray[np.int64]:
    """G.711 µ-law by the formula of its decoder."""
    code = ~np.frombuffer(codes, np.uint8).astype(np.int64) & 255
    magnitude = ((((code & 15) << 3) + 132) << ((code >> 4) & 7)) - 132
    return np.where(code & 128, -magnitude, magnitude)


def alaw_decoded(codes: bytes) -> npt.NDArray[np.int64]:
    """G.711 A-law by the formula of its decoder."""
    code = np.frombuffer(codes, np.uint8).astype(np.int64) ^ 0x55
    octave, step = (code >> 4) & 7, (code & 15) << 4
    magnitude = np.where(octave == 0, step + 8, (step + 264) << np.maximum(octave - 1, 0))
    return np.where(code & 128, magnitude, -magnitude)


TELEPHONE = [
    pytest.param("mulaw", mulaw_decoded, "pcm_mulaw", id="mulaw"),
    pytest.param("alaw", alaw_decoded, "pcm_alaw", id="alaw"),
]


@pytest.mark.parametrize(("encoding", "decoder", "codec"), TELEPHONE)
def test_telephone_speech_is_heard_alike_by_two_decoders(encoding: str, decoder: Callable, codec: str) -> None:
    said = sweep()
    made = b"".join(encoded(make_encoder(encoding), said))
    assert len(made) == len(said) // 3
    assert np.array_equal(decoder(made), decoded_packets([made], codec, 8_000))
    assert likeness(decoder(made).astype(np.int16), at_rate(said, 8_000)) > 35


@pytest.mark.parametrize(("encoding", "decoder", "codec"), TELEPHONE)
def test_a_telephone_code_is_the_step_its_sample_lies_in(encoding: str, decoder: Callable, codec: str) -> None:
    # Nothing is resampled here, so the tables alone are seen.
    samples = np.arange(-32_768, 32_768, dtype=np.int16)
    table = {"mulaw": encodings._MULAW, "alaw": encodings._ALAW}[encoding]
    values = decoder(table[samples.view(np.uint16)].tobytes())
    assert (np.diff(values) >= 0).all(), "a louder sample never gets a quieter code"
    assert len(np.unique(values)) == {"mulaw": 255, "alaw": 256}[encoding], "only µ-law has two codes for silence"
    inside = np.abs(samples.astype(int)) <= values.max()
    # Sixteen steps an octave: half a step is a thirty-second of the sound at most, but for the smallest steps.
    assert (np.abs(values - samples) <= np.abs(samples.astype(int)) / 32 + 8)[inside].all()
    decoded = np.unique(values).astype(np.int16)
    assert np.array_equal(decoder(table[decoded.view(np.uint16)].tobytes()), decoded), "decoded sound is coded alike"


@pytest.mark.parametrize("rate", SOCKET_FORMATS["opus"])
def test_opus_packets_are_20_ms_each_and_hold_the_whole_sound(rate: int) -> None:
    said = sweep()
    packets = encoded(make_encoder("opus", rate), said)
    assert len(packets) == len(said) / SAMPLE_RATE / 0.02 + 1  # one more for the look-ahead
    heard = decoded_packets(packets, "libopus", 48_000)
    assert len(heard) == 960 * len(packets)
    late = delay_of(heard, at_rate(said, 48_000))
    assert 300 <= late <= 312
    assert likeness(heard[late:], at_rate(said, 48_000)) > 20


def test_flac_holds_the_very_samples() -> None:
    said = sweep()
    made = b"".join(encoded(make_file_encoder("flac"), said))
    with soundfile.SoundFile(io.BytesIO(made)) as file:
        assert (file.samplerate, file.channels, file.format) == (SAMPLE_RATE, 1, "FLAC")
        # It does not know the length, and stumbles when asked for the very last sample.
        assert np.array_equal(file.read(len(said) - 1, dtype="int16"), said[:-1])
    assert np.array_equal(decoded_file(made)[0], said)


@pytest.mark.parametrize("name", ["mp3", "aac", "opus"])
def test_a_lossy_file_holds_the_whole_sound(name: str) -> None:
    said = sweep()
    made = b"".join(encoded(make_file_encoder(name), said))
    heard, rate = decoded_file(made)
    said = at_rate(said, rate)
    late = delay_of(heard, said)
    assert late == CODEC_DELAY.get(name, 0)
    # One block of delay before and the filling of the last block behind; an Ogg file says how much is neither.
    assert 0 <= len(heard) - len(said) - late <= (1_152 if name in CODEC_DELAY else 0)
    assert likeness(heard[late:], said) > 20


@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_a_second_decoder_hears_the_lossy_file_too(name: str) -> None:
    said = sweep()
    heard, rate = soundfile.read(io.BytesIO(b"".join(encoded(make_file_encoder(name), said))), dtype="int16")
    assert rate == SAMPLE_RATE
    late = delay_of(heard, said)
    assert late <= CODEC_DELAY.get(name, 0)
    # libsndfile has Opus decoded at 24 kHz, where the delay is no whole number of samples.
    assert likeness(heard[late:], said) > 8


def portions(encoder: Encoder, samples: Samples, size: int = 1_920) -> Iterator[tuple[int, int]]:
    """How many samples were pushed, and bytes returned, after each portion."""
    returned = len(encoder.start())
    for begin in range(0, len(samples), size):
        returned += sum(map(len, encoder.push(samples[begin : begin + size].tobytes())))
        yield begin + size, returned


@pytest.mark.parametrize("make", EVERY)
def test_sound_is_sent_on_within_a_fifth_of_a_second(
    make: Make, figure: Figure, request: pytest.FixtureRequest
) -> None:
    header = len(make().start())
    first = next(pushed for pushed, returned in portions(make(), sweep(), 240) if returned > header)
    figure(f"encoding {request.node.callspec.id}: sound before the first byte", f"{first / 24:.0f} ms")
    assert first <= SAMPLE_RATE * 0.2


@pytest.mark.parametrize("make", EVERY)
@given(st.lists(st.integers(0, 3_000), max_size=12))
def test_the_bytes_do_not_depend_on_how_the_sound_is_cut(make: Make, cuts: list[int]) -> None:
    said = sweep(0.125)
    assert b"".join(encoded(make(), said, cuts)) == b"".join(encoded(make(), said))


@pytest.mark.parametrize("make", EVERY)
def test_no_sound_at_all_is_a_format_too(make: Make) -> None:
    encoder = make()
    encoded(encoder, sweep(0))
    assert encoder.samples == 0


@pytest.mark.parametrize("make", EVERY)
def test_samples_counts_what_was_returned(make: Make) -> None:
    encoder = make()
    said = sweep()
    encoded(encoder, said)
    least = -(-len(said) * encoder.sample_rate // SAMPLE_RATE)
    packet = encoder.sample_rate // 50 if encoder.content_type == "audio/opus" else 0
    assert encoder.samples == least + packet


@pytest.mark.parametrize("make", EVERY)
def test_half_a_sample_is_refused(make: Make) -> None:
    encoder = make()
    encoder.start()
    with pytest.raises(ValueError, match="3 bytes"):
        encoder.push(b"abc")


def test_what_is_not_supported_is_refused_with_what_is() -> None:
    with pytest.raises(
        UnsupportedFormat, match=r"'mp3' is not supported; supported are pcm_s16le, mulaw, alaw, opus, wav"
    ):
        make_encoder("mp3")
    with pytest.raises(
        UnsupportedFormat, match=r"'mulaw' is not supported; supported are mp3, opus, aac, flac, wav, pcm"
    ):
        make_file_encoder("mulaw")
    with pytest.raises(UnsupportedFormat, match=r"pcm_s16le has no sample rate of 22050 Hz; supported are 8000, 16000"):
        make_encoder("pcm_s16le", 22_050)
    with pytest.raises(UnsupportedFormat, match=r"mp3 has no sample rate of 48000 Hz; supported are 24000"):
        make_file_encoder("mp3", 48_000)
    assert issubclass(UnsupportedFormat, InvalidRequest)


def test_an_encoding_has_a_usual_rate() -> None:
    assert {name: make_encoder(name).sample_rate for name in SOCKET_FORMATS} == {
        **dict.fromkeys(("pcm_s16le", "opus", "wav"), 24_000),
        **dict.fromkeys(("mulaw", "alaw"), 8_000),
    }
