"""Encodes recordings into what a clone is made from, once each, on a thread of its own.

The engine thread goes on stepping while this runs, so nobody who is speaking waits for somebody's new voice. What
is made is kept, by content, within a bound of memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .audio import mel_spectrogram
from .config import SAMPLE_RATE
from .errors import Overloaded
from .manifests import Reference
from .networks.codec_decoder import CodecDecoder
from .networks.codec_encoder import CodecEncoder
from .networks.codec_state import CodecSnapshot
from .networks.speaker_encoder import SpeakerEncoder
from .threads import on_passing_thread

_FRAMES_PER_CALL = 64
# Of recordings read before anybody listens: of one short call of the codec, and of a full one and what is left.
_WARM_UP_SECONDS = (3, 10)


@dataclass(frozen=True)
class VoiceNetworks:
    """The two encoders of a Base checkpoint, and the decoder that a clone goes on from."""

    codec_encoder: CodecEncoder
    speaker_encoder: SpeakerEncoder
    codec_decoder: CodecDecoder


@dataclass(frozen=True, eq=False)
class EncodedVoice:
    """A recording as the talker and the codec need it.

    key: of the recording's content and transcript. vector: (D,), the voice alone. codes: int64 (T, Q), and stream,
    the codec's state after them, when there is a transcript to clone in context with.
    """

    key: str
    vector: Tensor
    codes: Tensor | None
    stream: CodecSnapshot | None

    def used_by_current_stream(self) -> None:
        """Tell a GPU's allocator that the calling thread's stream reads this voice, made on another one."""
        if self.vector.is_cuda:
            stream = torch.cuda.current_stream(self.vector.device)
            for tensor in self._tensors():
                tensor.record_stream(stream)

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def _tensors(self) -> list[Tensor]:
        in_context = [self.codes] if self.codes is not None else []
        if self.stream is not None:
            in_context += [self.stream.keys, self.stream.values, self.stream.tails]
        return [self.vector, *in_context]


class VoiceEncoder:
    """Owns the encoding thread and the voices it has made. May be used by any thread."""

    def __init__(self, networks: VoiceNetworks, device: torch.device, *, capacity: int, max_waiting: int) -> None:
        """capacity: bytes of encoded voices to keep. max_waiting: how many recordings may wait to be encoded."""
        self._networks, self._device, self._capacity, self._max_waiting = networks, device, capacity, max_waiting
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tts-voices")
        self._lock = threading.Lock()
        self._voices: OrderedDict[str, Future[EncodedVoice]] = OrderedDict()

    def encode(self, reference: Reference) -> Future[EncodedVoice]:
        """The encoded voice of a recording: already there, or being made. Raises Overloaded."""
        with self._lock:
            known = self._voices.get(reference.key)
            if known is not None:
                self._voices.move_to_end(reference.key)
                return known
            waiting = sum(not future.done() for future in self._voices.values())
            if waiting > self._max_waiting:
                raise Overloaded(f"{waiting} recordings wait to be encoded; the limit is {self._max_waiting}")
            future = self._worker.submit(on_passing_thread, partial(self._encode, reference))
            self._voices[reference.key] = future
        # The future is kept with all it calls, so what it calls may not hold the recording, which `capacity` knows
        # nothing of: a voice without transcript is a few kilobytes, its recording megabytes.
        future.add_done_callback(partial(self._settle, reference.key))
        return future

    def warm_up(self) -> None:
        """Encode recordings of noise with a transcript, on the calling thread, and keep nothing of them.

        On a GPU the first of all loads and compiles the kernels of both encoders, for which the driver and the
        interpreter are held and everybody who speaks would wait.
        """
        draw = np.random.default_rng(0)
        for seconds in _WARM_UP_SECONDS:
            noise = 0.1 * draw.standard_normal(seconds * SAMPLE_RATE, dtype=np.float32)
            self._encode(Reference(noise, "noise", ""))

    def close(self) -> None:
        """Stop the thread; what is being made is finished first, what waits is cancelled."""
        self._worker.shutdown(cancel_futures=True)

    def _settle(self, key: str, done: Future[EncodedVoice]) -> None:
        """Keep what was made, and drop what has not been used for longest; a failure is not kept."""
        with self._lock:
            if not _succeeded(done):
                self._voices.pop(key, None)
                return
            made = {key: future.result().nbytes for key, future in self._voices.items() if _succeeded(future)}
            for oldest in list(made):
                if sum(made.values()) <= self._capacity:
                    break
                del made[oldest]
                del self._voices[oldest]

    @torch.inference_mode()
    def _encode(self, reference: Reference) -> EncodedVoice:
        """On a thread and a stream of its own."""
        with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
            samples = torch.from_numpy(reference.samples).to(self._networks.codec_encoder.codebooks)
            vector = self._networks.speaker_encoder.embed(mel_spectrogram(samples))
            codes = stream = None
            if reference.text is not None:
                codes = self._networks.codec_encoder.encode(samples)
                stream = self._play(codes)
            if self._stream is not None:
                self._stream.synchronize()
        return EncodedVoice(reference.key, vector, codes, stream)

    def _play(self, codes: Tensor) -> CodecSnapshot:
        """The codec's state after it has played codes (T, Q), whose sound nobody hears."""
        decoder = self._networks.codec_decoder
        state = decoder.allocate(1, _FRAMES_PER_CALL)
        here = torch.zeros(1, dtype=torch.int64, device=codes.device)
        for part in codes.T[None].split(_FRAMES_PER_CALL, dim=2):
            decoder.decode(part, state, here)
        return state.take(0)


def _succeeded(future: Future[EncodedVoice]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
