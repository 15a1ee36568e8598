"""Our engine speaks what the official package speaks: same codes, same sound, on random checkpoints."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from commands.demo_checkpoint import write_demo_checkpoint
from commands.render import Rendered
from tests.parity.cases import CALLS, MAX_NEW_TOKENS, MODELS, RATES, ROWS, DemoModel, Row
from tests.parity.official import OfficialRun, Speech
from tests.parity.ours import Clone, Networks, render
from tests.parity.recordings import write_recordings

pytestmark = pytest.mark.parity

AUDIO_TOLERANCE = 1e-4
VECTOR_TOLERANCE = 1e-5
HALF_PCM_STEP = 0.5 / 32_767

CLONES = [row for row in ROWS if row.recording is not None]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
each_clone = pytest.mark.parametrize("row", CLONES, ids=lambda row: row.id)
each_in_context = pytest.mark.parametrize("row", [row for row in CLONES if row.in_context], ids=lambda row: row.id)


@dataclass(frozen=True)
class Comparison:
    """One row from both sides; `audio` is our codec's float sound of the official codes, `clone` our encoders' work."""

    official: Speech
    ours: Rendered
    audio: np.ndarray
    clone: Clone | None

    @property
    def audio_error(self) -> float:
        """The largest difference of a sample, of full scale 1."""
        return float(np.abs(self.audio - self.official.audio).max(initial=0.0))

    @property
    def vector_error(self) -> float:
        """The largest difference of a component of the voice's vector."""
        if self.clone is None or self.official.vector is None:
            return 0.0
        return float(np.abs(self.clone.vector - self.official.vector).max())


def _rows(model: DemoModel) -> list[Row]:
    return [row for row in ROWS if row.model == model]


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Comparison]]:
    """Every row spoken by both sides, which work at the same time."""
    folder = tmp_path_factory.mktemp("parity")
    recordings = folder / "recordings"
    write_recordings(list(dict.fromkeys(row.recording for row in ROWS if row.recording)), recordings)
    for model in MODELS:
        write_demo_checkpoint(
            folder / model.name,
            model_type=model.model_type,
            size=model.size,
            seed=model.seed,
            speakers=dict(model.speakers) if model.speakers else None,
        )
    official = OfficialRun(CALLS, folder, recordings, folder / "official")
    try:
        ours = {model: render(folder / model.name, recordings, _rows(model)) for model in MODELS}
        official.wait()
        yield {
            row.id: _compare(networks, row, official.speech(row), ours[model][row.id])
            for model, networks in ((model, Networks(folder / model.name, recordings)) for model in MODELS)
            for row in _rows(model)
        }
    finally:
        official.stop()


def _compare(networks: Networks, row: Row, speech: Speech, ours: Rendered) -> Comparison:
    return Comparison(speech, ours, networks.audio(speech), networks.clone(row))


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


@each_clone
def test_the_vector_of_a_recording_is_the_official_one(row: Row, comparisons: dict[str, Comparison]) -> None:
    assert comparisons[row.id].clone is not None
    assert comparisons[row.id].vector_error <= VECTOR_TOLERANCE


@each_in_context
def test_the_codes_of_a_recording_are_the_official_ones(row: Row, comparisons: dict[str, Comparison]) -> None:
    clone, official = comparisons[row.id].clone, comparisons[row.id].official.recording
    assert clone is not None
    assert official is not None
    assert np.array_equal(clone.codes, official)


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


def test_the_clones_cover_what_they_should(
    comparisons: dict[str, Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    heard = {(row.model.size, row.in_context, *_kind(row)) for row in CLONES}
    codes = np.concatenate([c.clone.codes for c in comparisons.values() if c.clone is not None])
    with capsys.disabled():
        print(
            f"\nclones: {len(CLONES)} greedy cases, {sum(row.in_context for row in CLONES)} of them in context, "
            f"{len({row.recording for row in CLONES})} recordings, {len(np.unique(codes, axis=0))} different frames "
            f"in them, largest vector difference {max(comparisons[row.id].vector_error for row in CLONES):.1e}"
        )
    assert len(CLONES) >= 40
    assert heard >= set(product(("0b6", "1b7"), (False, True), RATES, (1, 2)))
    ways = {(row.in_context, row.text_placement) for row in CLONES}
    assert ways == set(product((False, True), ("prefill", "stream")))
    assert len(np.unique(codes, axis=0)) >= 100


def _kind(row: Row) -> tuple[int, int]:
    """Rate and channels of a clone's recording."""
    assert row.recording is not None
    return row.recording.rate, row.recording.channels
