"""The formats speech is sent in: which there are, and an incremental encoder for each.

Speech comes as 16-bit mono PCM at 24 kHz in portions of any length and leaves as bytes of the format, with as little
delay as the format allows. Sockets and HTTP bodies have formats of their own; compressed.py makes those that need
a codec. It knows neither messages nor routes.
"""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soxr

from frontend.compressed import CODECS, OPUS_RATES, CodecFile, OpusPackets
from frontend.errors import InvalidRequest
from frontend.synthesis import BYTES_PER_SAMPLE, SAMPLE_RATE

PCM_RATES = (8_000, 16_000, 24_000, 44_100, 48_000)
TELEPHONE_RATES = (8_000,)

SOCKET_FORMATS: Mapping[str, tuple[int, ...]] = {
    "pcm_s16le": PCM_RATES,
    "mulaw": TELEPHONE_RATES,
    "alaw": TELEPHONE_RATES,
    "opus": OPUS_RATES,
    "wav": PCM_RATES,
}
"""Encodings of a WebSocket and the sample rates of each."""

FILE_FORMATS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(CODECS, (SAMPLE_RATE,)),
    "wav": PCM_RATES,
    "pcm": PCM_RATES,
}
"""Formats of an HTTP body and the sample rates of each."""

_UNKNOWN_SIZE = 0xFFFFFFFF
_FULL_SCALE = 32_768.0

Int16 = npt.NDArray[np.int16]


class UnsupportedFormat(InvalidRequest):
    """There is no such encoding, or not at that sample rate; the message lists what there is."""


class Encoder(Protocol):
    """One utterance on its way into one format. For one thread at a time; start, then push, then finish, then close."""

    content_type: str
    """The MIME type of all its bytes together."""
    sample_rate: int
    samples: int
    """Samples, at `sample_rate`, in all that was returned so far; 0 for a header alone."""

    def start(self) -> bytes:
        """The header, which comes before everything else; empty for formats without one."""
        ...

    def push(self, pcm: bytes) -> list[bytes]:
        """What can be sent after more PCM: separate packets for opus on a socket, else one chunk or none.

        pcm: whole samples, s16le mono at 24 kHz. Raises ValueError for half a sample.
        """
        ...

    def finish(self) -> list[bytes]:
        """The rest, as push returns it. Only close may follow."""
        ...

    def close(self) -> None:
        """Gives back what it holds, finished or not. Nothing may follow but another close."""
        ...


def socket_rate(encoding: str, sample_rate: int | None = None) -> int:
    """The sample rate of a WebSocket's sound, the encoding's usual one unless it is given. Raises UnsupportedFormat."""
    return _rate(encoding, sample_rate, SOCKET_FORMATS)


def make_encoder(encoding: str, sample_rate: int | None = None) -> Encoder:
    """An encoder for a WebSocket's binary frames, at the encoding's usual rate unless one is given.

    Raises UnsupportedFormat.
    """
    rate = socket_rate(encoding, sample_rate)
    if encoding == "opus":
        return OpusPackets(rate)
    return _SOCKET_PCM[encoding](rate)


def make_file_encoder(encoding: str, sample_rate: int | None = None) -> Encoder:
    """An encoder for the body of an HTTP response, which is one file of that format. Raises UnsupportedFormat."""
    rate = _rate(encoding, sample_rate, FILE_FORMATS)
    if encoding in CODECS:
        return CodecFile(encoding)
    return Wav(rate) if encoding == "wav" else Pcm(rate)


def _rate(encoding: str, sample_rate: int | None, formats: Mapping[str, tuple[int, ...]]) -> int:
    rates = formats.get(encoding)
    if rates is None:
        raise UnsupportedFormat(f"encoding {encoding[:40]!r} is not supported; supported are {', '.join(formats)}")
    if sample_rate is None:
        return SAMPLE_RATE if SAMPLE_RATE in rates else rates[0]
    if sample_rate not in rates:
        supported = ", ".join(map(str, rates))
        raise UnsupportedFormat(f"{encoding} has no sample rate of {sample_rate} Hz; supported are {supported}")
    return sample_rate


def whole_samples(pcm: bytes) -> Int16:
    """PCM bytes as samples (N,). Raises ValueError for half a sample."""
    if len(pcm) % BYTES_PER_SAMPLE:
        raise ValueError(f"{len(pcm)} bytes are no whole number of 16-bit samples")
    return np.frombuffer(pcm, dtype="<i2").astype(np.int16, copy=False)


class Resampling:
    """24 kHz samples to another rate as they come: of N samples, ⌈N·rate/24000⌉ in the end."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        # In floats, since soxr's conversion to integers adds noise that differs from run to run.
        self._stream = (
            None
            if sample_rate == SAMPLE_RATE
            else soxr.ResampleStream(SAMPLE_RATE, sample_rate, 1, dtype="float32", quality="HQ")
        )
        self._taken = self._given = 0

    def push(self, samples: Int16) -> Int16:
        """The samples that are certain by now."""
        self._taken += len(samples)
        if self._stream is None:
            return samples
        return self._counted(self._stream.resample_chunk(_floats(samples)))

    def finish(self) -> Int16:
        """The rest."""
        if self._stream is None:
            return np.zeros(0, np.int16)
        rest = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        missing = math.ceil(self._taken * self._rate / SAMPLE_RATE) - self._given
        return self._counted(np.pad(rest[:missing], (0, max(0, missing - len(rest)))))

    def _counted(self, made: npt.NDArray[np.float32]) -> Int16:
        self._given += len(made)
        return np.clip(np.rint(made * _FULL_SCALE), -32_768, 32_767).astype(np.int16)


def _floats(samples: Int16) -> npt.NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(_FULL_SCALE)


class Pcm:
    """Signed 16-bit little endian samples, mono, without a header."""

    content_type = "audio/pcm"

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.samples = 0
        self._resampling = Resampling(sample_rate)

    def start(self) -> bytes:
        return b""

    def push(self, pcm: bytes) -> list[bytes]:
        return self._portion(self._resampling.push(whole_samples(pcm)))

    def finish(self) -> list[bytes]:
        return self._portion(self._resampling.finish())

    def close(self) -> None:
        """Nothing to give back."""

    def _portion(self, samples: Int16) -> list[bytes]:
        self.samples += len(samples)
        return [self._coded(samples)] if len(samples) else []

    def _coded(self, samples: Int16) -> bytes:
        return samples.astype("<i2", copy=False).tobytes()


class Wav(Pcm):
    """A RIFF header whose sizes say that the length is unknown, then PCM."""

    content_type = "audio/wav"

    def start(self) -> bytes:
        rate = self.sample_rate
        form = struct.pack("<HHIIHH", 1, 1, rate, rate * BYTES_PER_SAMPLE, BYTES_PER_SAMPLE, 8 * BYTES_PER_SAMPLE)
        chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", _UNKNOWN_SIZE)
        return b"RIFF" + struct.pack("<I", _UNKNOWN_SIZE) + b"WAVE" + chunks


class Mulaw(Pcm):
    """G.711 µ-law, one byte a sample."""

    content_type = "audio/basic"

    def _coded(self, samples: Int16) -> bytes:
        return _MULAW[samples.view(np.uint16)].tobytes()


class Alaw(Pcm):
    """G.711 A-law, one byte a sample."""

    content_type = "audio/PCMA"

    def _coded(self, samples: Int16) -> bytes:
        return _ALAW[samples.view(np.uint16)].tobytes()


def _all_samples() -> npt.NDArray[np.int32]:
    """Every 16-bit sample, in the order of its bits read as an unsigned number."""
    return np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)


def _mulaw_table() -> npt.NDArray[np.uint8]:
    """The code of every sample: sign, the octave of the biased magnitude, four bits below its leading one; inverted."""
    samples = _all_samples()
    biased = np.minimum(np.abs(samples) >> 2, 8_158) + 33
    octave = np.floor(np.log2(biased)).astype(np.int32) - 5
    code = (octave << 4) | ((biased >> (octave + 1)) & 15) | np.where(samples < 0, 128, 0)
    return (code ^ 255).astype(np.uint8)


def _alaw_table() -> npt.NDArray[np.uint8]:
    """The code of every sample, on 13 bits; the lowest two octaves are linear, and every other bit is inverted."""
    samples = _all_samples()
    # Negative samples are mirrored so that -1 falls on the same step as 0.
    magnitude = np.where(samples < 0, ~samples, samples) >> 4
    octave = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 3, 0)
    code = (octave << 4) | ((magnitude >> np.maximum(octave - 1, 0)) & 15)
    return (np.where(samples < 0, code, code | 128) ^ 0x55).astype(np.uint8)


_MULAW = _mulaw_table()
_ALAW = _alaw_table()
_SOCKET_PCM: Mapping[str, Callable[[int], Encoder]] = {"pcm_s16le": Pcm, "wav": Wav, "mulaw": Mulaw, "alaw": Alaw}
