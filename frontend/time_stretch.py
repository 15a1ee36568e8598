"""Speech made faster or slower without a change of pitch, incrementally, by FFmpeg's atempo filter through PyAV."""

import math
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.error import BlockingIOError as NothingYet
from av.filter import Graph

from frontend.av_frames import mono_frame
from frontend.synthesis import BYTES_PER_SAMPLE, SAMPLE_RATE

_BLOCK_SAMPLES = 480
# Outside of it the filter leaves samples out, or is not defined; a larger change is made in steps.
_LEAST, _MOST = 0.5, 2.0


class TimeStretch:
    """s16le mono PCM at 24 kHz in and out; `speed` 2 halves the length. The output does not depend on the cuts."""

    def __init__(self, speed: float) -> None:
        """speed: above 0. Raises ValueError."""
        if not (speed > 0 and math.isfinite(speed)):
            raise ValueError(f"the speed must be above 0, got {speed}")
        self._graph = _graph(speed)
        self._kept = bytearray()
        self._pushed = 0

    def push(self, pcm: bytes) -> bytes:
        """What is certain by now; whole samples are expected."""
        self._kept += pcm
        made = b""
        while len(self._kept) >= _BLOCK_SAMPLES * BYTES_PER_SAMPLE:
            made += self._filtered(_BLOCK_SAMPLES * BYTES_PER_SAMPLE)
        return made

    def finish(self) -> bytes:
        """The rest."""
        made = self._filtered(len(self._kept)) if self._kept else b""
        if not self._pushed:
            return b""
        self._graph.push(None)
        return made + self._pulled()

    def _filtered(self, size: int) -> bytes:
        samples = np.frombuffer(bytes(self._kept[:size]), dtype="<i2")
        del self._kept[:size]
        self._graph.push(mono_frame(samples, self._pushed))
        self._pushed += len(samples)
        return self._pulled()

    def _pulled(self) -> bytes:
        made = b""
        while True:
            try:
                frame = self._graph.pull()
            except (NothingYet, av.error.EOFError):
                return made
            assert isinstance(frame, AudioFrame)
            made += frame.to_ndarray().astype("<i2", copy=False).tobytes()


def _graph(speed: float) -> Graph:
    graph = Graph()
    nodes = [
        graph.add_abuffer(sample_rate=SAMPLE_RATE, format="s16", layout="mono", time_base=Fraction(1, SAMPLE_RATE))
    ]
    steps = math.ceil(abs(math.log2(speed))) or 1
    for _ in range(steps):
        nodes.append(graph.add("atempo", f"{min(_MOST, max(_LEAST, speed ** (1 / steps))):.9f}"))
    nodes.append(graph.add("aformat", "sample_fmts=s16:channel_layouts=mono"))
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    return graph
