"""Our engine speaks what the official package speaks: same codes, same sound, on random checkpoints."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from commands.demo_checkpoint import write_demo_checkpoint
from commands.render import Collector, Rendered
from tests.parity.cases import CALLS, MAX_NEW_TOKENS, MODELS, ROWS, DemoModel, Row
from tests.parity.official import OfficialRun, Speech
from tts_engine import Engine, EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.networks.codec_decoder import CodecDecoder

pytestmark = pytest.mark.parity

AUDIO_TOLERANCE = 1e-4
HALF_PCM_STEP = 0.5 / 32_767
DEADLINE_S = 120

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


@dataclass(frozen=True)
class Comparison:
    """One row from both sides; `audio` is our codec's float sound of the official codes."""

    official: Speech
    ours: Rendered
    audio: np.ndarray

    @property
    def audio_error(self) -> float:
        """The largest difference of a sample, of full scale 1."""
        return float(np.abs(self.audio - self.official.audio).max(initial=0.0))


def _render(checkpoint: Path, rows: list[Row]) -> dict[str, Rendered]:
    """Our engine's utterances, spoken one by one, by row id."""
    config = EngineConfig(slots=1, max_waiting=len(rows))
    engine = Engine.load(checkpoint, config, voices=None, device="cpu", dtype="float32")
    engine.start()
    try:
        collectors = {row.id: Collector() for row in rows}
        for row in rows:
            engine.submit(_speak(row), collectors[row.id])
        return {name: collector.rendered.result(DEADLINE_S) for name, collector in collectors.items()}
    finally:
        engine.shutdown()


def _speak(row: Row) -> Speak:
    return Speak(
        text=row.text,
        voice=row.speaker,
        language=row.language,
        instruct=row.instruct or None,
        temperature=0.0,
        max_frames=MAX_NEW_TOKENS - 1,
        text_placement=row.text_placement,
    )


def _codec(checkpoint: Path) -> CodecDecoder:
    return load_networks(Checkpoint.read(checkpoint), torch.device("cpu"), torch.float32).codec


def _decode(codec: CodecDecoder, codes: np.ndarray) -> np.ndarray:
    """Our codec's sound (T*1920,) of codes (T, 16), in one call."""
    if not len(codes):
        return np.zeros(0, np.float32)
    with torch.inference_mode():
        state = codec.allocate(1, frames_per_call=len(codes))
        return codec.decode(torch.from_numpy(codes.T[None].copy()), state)[0].numpy()


def _compare(
    model: DemoModel, checkpoint: Path, official: OfficialRun, ours: dict[str, Rendered]
) -> Iterator[tuple[str, Comparison]]:
    codec = _codec(checkpoint)
    for row in (row for row in ROWS if row.model == model):
        speech = official.speech(row)
        yield row.id, Comparison(speech, ours[row.id], _decode(codec, speech.codes))


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Comparison]]:
    """Every row spoken by both sides, which work at the same time."""
    folder = tmp_path_factory.mktemp("parity")
    for model in MODELS:
        write_demo_checkpoint(
            folder / model.name,
            model_type=model.model_type,
            size=model.size,
            seed=model.seed,
            speakers=dict(model.speakers) if model.speakers else None,
        )
    official = OfficialRun(CALLS, folder, folder / "official")
    try:
        ours = {model: _render(folder / model.name, [row for row in ROWS if row.model == model]) for model in MODELS}
        official.wait()
        yield {
            name: comparison
            for model in MODELS
            for name, comparison in _compare(model, folder / model.name, official, ours[model])
        }
    finally:
        official.stop()


def _difference(comparison: Comparison) -> str:
    """Where the codes part, and how close the official choice was."""
    ours, theirs, logits = comparison.ours.codes, comparison.official.codes, comparison.official.logits
    shared = min(len(ours), len(theirs))
    parted = np.flatnonzero((ours[:shared] != theirs[:shared]).any(axis=1))
    frame = int(parted[0]) if len(parted) else shared
    best, second = np.sort(logits[min(frame, len(logits) - 1)])[[-1, -2]]
    return (
        f"{len(ours)} frames against the official {len(theirs)}, first difference in frame {frame}: "
        f"{ours[frame : frame + 1].tolist()} against {theirs[frame : frame + 1].tolist()}; the official "
        f"talker preferred its first code by {best - second:.2e}"
    )


@each_row
def test_greedy_codes_are_the_official_ones(row: Row, comparisons: dict[str, Comparison]) -> None:
    comparison = comparisons[row.id]
    assert comparison.ours.outcome.error is None
    assert np.array_equal(comparison.ours.codes, comparison.official.codes), _difference(comparison)


@each_row
def test_the_codec_sounds_as_the_official_one(row: Row, comparisons: dict[str, Comparison]) -> None:
    assert comparisons[row.id].audio_error <= AUDIO_TOLERANCE


@each_row
def test_the_pcm_sent_is_the_official_sound_rounded(row: Row, comparisons: dict[str, Comparison]) -> None:
    comparison = comparisons[row.id]
    sound = comparison.ours.pcm.astype(np.float32) / 32_767
    assert sound.shape == comparison.official.audio.shape
    assert np.abs(sound - comparison.official.audio).max(initial=0.0) <= AUDIO_TOLERANCE + HALF_PCM_STEP


def test_the_cases_cover_what_they_should(
    comparisons: dict[str, Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = [len(comparison.official.codes) for comparison in comparisons.values()]
    ended = sum(length < MAX_NEW_TOKENS - 1 for length in lengths)
    worst = max(comparison.audio_error for comparison in comparisons.values())
    with capsys.disabled():
        print(
            f"\nparity with the official package: {len(lengths)} greedy cases on {len(MODELS)} checkpoints, "
            f"{sum(lengths)} frames, {ended} ended by themselves, largest audio difference {worst:.1e}"
        )
    assert len(lengths) >= 60
    assert ended >= 10
    assert len(lengths) - ended >= 10
    assert len({tuple(frame) for c in comparisons.values() for frame in c.official.codes}) > sum(lengths) // 2
