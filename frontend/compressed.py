"""Speech in the formats that need a codec, through PyAV: bare Opus packets, and files of Opus, MP3, AAC and FLAC.

Input is 16-bit mono PCM at 24 kHz. The codec gets it in blocks of its own length, so that the bytes do not depend
on how the input was cut. It knows neither who asked for a format nor which others there are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from frontend.av_frames import mono_frame
from frontend.synthesis import BYTES_PER_SAMPLE, SAMPLE_RATE

OPUS_RATES = (8_000, 16_000, 24_000, 48_000)
OPUS_PACKET_MS = 20
_OPUS = {"frame_duration": str(OPUS_PACKET_MS), "application": "audio"}
_OPUS_BITS_PER_S = 48_000


@dataclass(frozen=True)
class Codec:
    """How one kind of file is made: the codec and the container of FFmpeg, with their options."""

    codec: str
    container: str
    content_type: str
    samples: str
    bits_per_s: int | None = None
    codec_options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)


CODECS: Mapping[str, Codec] = {
    # The Xing header would have to be filled in at the end, which a stream cannot.
    "mp3": Codec(
        *("libmp3lame", "mp3", "audio/mpeg", "s16p", 96_000),
        container_options={"write_xing": "0", "id3v2_version": "0"},
    ),
    # A page is sent when it is full: by default that takes a second.
    "opus": Codec(
        *("libopus", "ogg", "audio/ogg", "s16", _OPUS_BITS_PER_S, _OPUS),
        container_options={"page_duration": "20000"},
    ),
    "aac": Codec("aac", "adts", "audio/aac", "fltp", 96_000, {"aac_coder": "fast"}),
    # The higher levels of compression use blocks of a tenth of a second.
    "flac": Codec(
        *("flac", "flac", "audio/flac", "s16", None, {"compression_level": "2"}),
        container_options={"metadata_header_padding": "0"},
    ),
}
"""The files that can be made, by the names of OpenAI's API."""


class CodecFile:
    """An incremental encoder whose bytes together are one file. Implements frontend.encodings.Encoder."""

    sample_rate = SAMPLE_RATE

    def __init__(self, name: str) -> None:
        """name: a key of CODECS."""
        kind = CODECS[name]
        self.content_type = kind.content_type
        self.samples = 0
        self._written = _Written()
        # Without bitexact, Ogg files have random serial numbers.
        options = {"flush_packets": "1", "fflags": "+bitexact", **kind.container_options}
        self._file = av.open(self._written, "w", format=kind.container, container_options=options)
        stream = self._file.add_stream(kind.codec, rate=SAMPLE_RATE, options=dict(kind.codec_options))
        assert isinstance(stream, AudioStream)
        self._stream = stream
        _set_up(stream.codec_context, kind.samples, kind.bits_per_s)
        self._file.start_encoding()
        self._blocks = _Blocks(stream.codec_context.frame_size)

    def start(self) -> bytes:
        return self._written.take()

    def push(self, pcm: bytes) -> list[bytes]:
        self.samples += len(pcm) // BYTES_PER_SAMPLE
        for frame in self._blocks.push(pcm):
            self._file.mux(self._stream.encode(frame))
        return self._portion()

    def finish(self) -> list[bytes]:
        for frame in self._blocks.finish():
            self._file.mux(self._stream.encode(frame))
        self._file.mux(self._stream.encode(None))
        self._file.close()
        return self._portion()

    def close(self) -> None:
        # The file and its stream hold each other; until a search for garbage they would keep two threads, which
        # PyAV's conversion of the samples has for itself.
        self._file.close()

    def _portion(self) -> list[bytes]:
        made = self._written.take()
        return [made] if made else []


class OpusPackets:
    """An incremental encoder to bare Opus packets of 20 ms. Implements frontend.encodings.Encoder.

    A decoder hears everything 6.5 ms late, the codec's look-ahead; the last packet is filled up with silence.
    """

    content_type = "audio/opus"

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.samples = 0
        self._packet_samples = sample_rate * OPUS_PACKET_MS // 1_000
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, AudioCodecContext)
        context.options = dict(_OPUS)
        # Whatever rate a packet was encoded at, a decoder may be opened at any of its own.
        _set_up(context, "s16", _OPUS_BITS_PER_S)
        context.open()
        self._context = context
        self._blocks = _Blocks(context.frame_size)

    def start(self) -> bytes:
        return b""

    def push(self, pcm: bytes) -> list[bytes]:
        return self._packets(self._blocks.push(pcm))

    def finish(self) -> list[bytes]:
        if self._blocks.empty:
            return []
        rest = self._packets(self._blocks.finish())
        return rest + self._counted([bytes(packet) for packet in self._context.encode(None)])

    def close(self) -> None:
        """Nothing to give back: the codec goes with its last reference."""

    def _packets(self, frames: Iterator[AudioFrame]) -> list[bytes]:
        return self._counted([bytes(packet) for frame in frames for packet in self._context.encode(frame)])

    def _counted(self, packets: list[bytes]) -> list[bytes]:
        self.samples += len(packets) * self._packet_samples
        return packets


def _set_up(context: AudioCodecContext, samples: str, bits_per_s: int | None) -> None:
    context.sample_rate = SAMPLE_RATE
    context.layout = "mono"
    context.format = samples
    context.time_base = Fraction(1, SAMPLE_RATE)
    if bits_per_s is not None:
        context.bit_rate = bits_per_s


class _Blocks:
    """PCM cut into the frames a codec wants; only the last may be shorter."""

    def __init__(self, samples: int) -> None:
        self._bytes = samples * BYTES_PER_SAMPLE
        self._kept = bytearray()
        self._begun = 0

    @property
    def empty(self) -> bool:
        """Whether nothing was ever pushed."""
        return not self._begun and not self._kept

    def push(self, pcm: bytes) -> Iterator[AudioFrame]:
        if len(pcm) % BYTES_PER_SAMPLE:
            raise ValueError(f"{len(pcm)} bytes are no whole number of 16-bit samples")
        self._kept += pcm
        while len(self._kept) >= self._bytes:
            yield self._frame(self._bytes)

    def finish(self) -> Iterator[AudioFrame]:
        if self._kept:
            yield self._frame(len(self._kept))

    def _frame(self, size: int) -> AudioFrame:
        samples = np.frombuffer(bytes(self._kept[:size]), dtype="<i2")
        del self._kept[:size]
        frame = mono_frame(samples, self._begun)
        self._begun += len(samples)
        return frame


class _Written:
    """The bytes a container has written and nobody has taken yet; has no way back, so the container knows."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken
