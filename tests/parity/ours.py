"""Our side of the comparison: the engine on a list of rows, and its networks called by themselves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from commands.render import Collector, Rendered
from tests.parity.cases import MAX_NEW_TOKENS, Row
from tests.parity.official import Speech
from tts_engine import SAMPLES_PER_FRAME, Engine, EngineConfig, Speak
from tts_engine.audio import mel_spectrogram
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.manifests import Reference, read_recording

DEADLINE_S = 120


@dataclass(frozen=True)
class Clone:
    """What our encoders make of a recording: vector (D,) and codes int64 (T, 16)."""

    vector: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64]


def render(checkpoint: Path, recordings: Path, rows: list[Row]) -> dict[str, Rendered]:
    """Our engine's utterances, spoken one by one and whole, by row id."""
    config = EngineConfig(slots=1, max_waiting=len(rows), segment_tokens=4_000)
    engine = Engine.load(checkpoint, config, voices=None, device="cpu", dtype="float32", threads="1")
    engine.start()
    try:
        collectors = {row.id: Collector() for row in rows}
        for row in rows:
            engine.submit(_speak(row, recordings), collectors[row.id])
        return {name: collector.rendered.result(DEADLINE_S) for name, collector in collectors.items()}
    finally:
        engine.shutdown()


def _speak(row: Row, recordings: Path) -> Speak:
    audio, rate = read_recording(recordings / row.recording.file) if row.recording else (None, None)
    return Speak(
        text=row.text,
        voice=row.speaker,
        language=row.language,
        instruct=row.instruct or None,
        reference_audio=audio,
        reference_sample_rate=rate,
        reference_text=row.transcript,
        temperature=0.0,
        max_frames=MAX_NEW_TOKENS - 1,
        text_placement=row.text_placement,
        trim_leading_silence=False,
    )


class Networks:
    """A checkpoint's codec and encoders, without an engine."""

    def __init__(self, checkpoint: Path, recordings: Path) -> None:
        self._recordings = recordings
        self._networks = load_networks(Checkpoint.read(checkpoint), torch.device("cpu"), torch.float32)

    @torch.inference_mode()
    def audio(self, speech: Speech) -> npt.NDArray[np.float32]:
        """Our codec's sound (T*1920,) of the official codes, behind those of the recording if there are any."""
        if not len(speech.codes):
            return np.zeros(0, np.float32)
        parts = [speech.codes] if speech.recording is None else [speech.recording, speech.codes]
        codes = torch.from_numpy(np.concatenate(parts).T[None].copy())
        codec = self._networks.codec
        state = codec.allocate(1, frames_per_call=codes.shape[2])
        sound = codec.decode(codes, state, torch.zeros(1, dtype=torch.int64))[0].numpy()
        return sound[len(sound) - SAMPLES_PER_FRAME * len(speech.codes) :]

    @torch.inference_mode()
    def clone(self, row: Row) -> Clone | None:
        """What our encoders make of a row's recording."""
        voices = self._networks.voices
        if row.recording is None or voices is None:
            return None
        reference = Reference.of(*read_recording(self._recordings / row.recording.file), row.transcript)
        samples = torch.from_numpy(reference.samples)
        vector = voices.speaker_encoder.embed(mel_spectrogram(samples))
        return Clone(vector.numpy(), voices.codec_encoder.encode(samples).numpy())
