"""How audio becomes binary frames: as it is, or behind eight bytes that say whose it is and where it belongs.

It knows neither encodings nor sockets.
"""

import struct
from dataclasses import dataclass
from typing import Protocol

VERSION = 1
LAST = 1
MAX_STREAM_ID = 0xFFFF

_HEADER = struct.Struct("<BBHI")
HEADER_BYTES = _HEADER.size


class Framing(Protocol):
    """Makes the frames of one stream."""

    def frame(self, payload: bytes, sample_offset: int) -> bytes:
        """One frame of audio; sample_offset: samples of the stream before it, at its own rate."""
        ...

    def ending(self, sample_offset: int) -> bytes | None:
        """The frame that ends the stream, if there is one."""
        ...


class Plain:
    """A frame is its audio; only one stream may be under way."""

    def frame(self, payload: bytes, sample_offset: int) -> bytes:
        return payload

    def ending(self, sample_offset: int) -> bytes | None:
        return None


@dataclass(frozen=True)
class Tagged:
    """u8 version, u8 flags (bit 0: last), u16 stream, u32 sample offset, little endian; then the audio."""

    stream_id: int

    def frame(self, payload: bytes, sample_offset: int) -> bytes:
        return _HEADER.pack(VERSION, 0, self.stream_id, sample_offset & 0xFFFFFFFF) + payload

    def ending(self, sample_offset: int) -> bytes | None:
        return _HEADER.pack(VERSION, LAST, self.stream_id, sample_offset & 0xFFFFFFFF)


@dataclass(frozen=True)
class TaggedFrame:
    """A tagged frame, read."""

    stream_id: int
    sample_offset: int
    last: bool
    payload: bytes


def read_tagged(frame: bytes) -> TaggedFrame:
    """Raises ValueError for what is no tagged frame of this version."""
    if len(frame) < HEADER_BYTES or frame[0] != VERSION:
        raise ValueError(f"{frame[:HEADER_BYTES].hex()} is not the header of a tagged frame of version {VERSION}")
    _, flags, stream_id, sample_offset = _HEADER.unpack_from(frame)
    return TaggedFrame(stream_id, sample_offset, bool(flags & LAST), frame[HEADER_BYTES:])
