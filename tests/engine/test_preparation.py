"""From a request to an utterance: ranges, defaults, and what is refused before anything is queued."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import Demo
from tests.engine.conftest import VOICES
from tests.engine.fakes import Listener
from tts_engine import EngineConfig, InvalidRequest, Speak, Unsupported
from tts_engine.checkpoint import Checkpoint
from tts_engine.preparation import Preparation
from tts_engine.request import Utterance
from tts_engine.voices import VoiceBook, read_manifests

CONFIG = EngineConfig(max_text_tokens=200, max_instruct_tokens=16, max_frames=900)


def preparation(checkpoint: Checkpoint) -> Preparation:
    return Preparation(checkpoint, CONFIG, VoiceBook(checkpoint.model, read_manifests(VOICES), "makima"))


def prepared(checkpoint: Checkpoint, **values: Any) -> Utterance:
    return preparation(checkpoint).prepare(Speak(**{"text": "Hello", **values}), Listener())


@pytest.mark.parametrize(
    ("name", "value", "limits"),
    [
        ("temperature", -0.1, "from 0.0 to 10.0"),
        ("temperature", 10.1, "from 0.0 to 10.0"),
        ("temperature", float("nan"), "from 0.0 to 10.0"),
        ("temperature", float("inf"), "from 0.0 to 10.0"),
        ("top_k", -1, "from 0 to 1000000"),
        ("top_p", 1.1, "from 0.0 to 1.0"),
        ("repetition_penalty", 0.0, "from 0.1 to 10.0"),
        ("predictor_temperature", -1.0, "from 0.0 to 10.0"),
        ("predictor_top_k", 2_000_000, "from 0 to 1000000"),
        ("predictor_top_p", -0.5, "from 0.0 to 1.0"),
        ("seed", -1, "from 0 to 18446744073709551615"),
        ("seed", 2**64, "from 0 to 18446744073709551615"),
        ("max_frames", 0, "from 1 to 900"),
        ("max_frames", 901, "from 1 to 900"),
    ],
)
def test_a_number_out_of_its_range_is_refused_naming_it_and_the_range(
    checkpoint: Checkpoint, name: str, value: float, limits: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepared(checkpoint, **{name: value})
    assert str(caught.value) == f"{name} must be {limits}, got {value}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("top_k", 0),
        ("top_p", 0.0),
        ("predictor_top_p", 1.0),
        ("seed", 0),
        ("seed", 2**64 - 1),
        ("max_frames", 1),
        ("max_frames", 900),
    ],
)
def test_the_ends_of_a_range_belong_to_it(checkpoint: Checkpoint, name: str, value: float) -> None:
    assert prepared(checkpoint, **{name: value})


def test_what_is_not_given_comes_from_the_checkpoint(checkpoint: Checkpoint) -> None:
    sampling = prepared(checkpoint).sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.9, 50, 1.0)
    assert sampling.repetition_penalty == 1.05
    assert (sampling.predictor_temperature, sampling.predictor_top_k, sampling.predictor_top_p) == (0.9, 50, 1.0)
    assert prepared(checkpoint).sampling.seed != sampling.seed


@pytest.mark.parametrize(
    ("talker", "predictor", "expected"), [(0.0, None, 0.0), (0.0, 0.7, 0.7), (0.5, None, 0.9), (None, 0.0, 0.0)]
)
def test_temperature_zero_is_greedy_for_the_predictor_too_unless_it_has_its_own(
    checkpoint: Checkpoint, talker: float | None, predictor: float | None, expected: float
) -> None:
    utterance = prepared(checkpoint, temperature=talker, predictor_temperature=predictor)
    assert utterance.sampling.predictor_temperature == expected


@pytest.mark.parametrize(("tokens", "frames"), [(1, 192), (16, 192), (17, 204), (74, 888), (76, 900)])
def test_the_cap_grows_with_the_text(checkpoint: Checkpoint, tokens: int, frames: int) -> None:
    assert prepared(checkpoint, text="x" * tokens).max_frames == frames
    assert prepared(checkpoint, text="x" * tokens, max_frames=100).max_frames == 100


def test_a_refused_placement_is_named_with_those_there_are(checkpoint: Checkpoint) -> None:
    assert (
        prepared(checkpoint).prompt.trailing_ids == prepared(checkpoint, text_placement="prefill").prompt.trailing_ids
    )
    assert prepared(checkpoint, text_placement="stream").prompt.trailing_ids
    with pytest.raises(InvalidRequest, match="text_placement must be 'prefill' or 'stream', got 'Stream'"):
        prepared(checkpoint, text_placement="Stream")


@pytest.mark.parametrize(
    "value",
    [
        {"reference_audio": np.zeros(9, dtype=np.float32)},
        {"reference_sample_rate": 24_000},
        {"reference_text": "words"},
        {"utterance": "live"},
        {"text_complete": True},
    ],
)
def test_inputs_of_later_versions_are_unsupported_by_name(checkpoint: Checkpoint, value: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=next(iter(value))):
        prepared(checkpoint, **value)


def test_an_ignored_instruct_is_told(demo: Demo, checkpoint: Checkpoint) -> None:
    large = Checkpoint.read(demo(size="1b7"))
    assert prepared(checkpoint, instruct="Sadly").description["ignored"] == ["instruct"]
    assert prepared(checkpoint).description["ignored"] == []
    assert prepared(large, instruct="Sadly").description["ignored"] == []


def test_a_designed_voice_is_described_by_its_folder_or_by_the_request(demo: Demo) -> None:
    designing = Checkpoint.read(demo(model_type="voice_design", size="1b7"))
    lengths = [
        len(prepared(designing, voice=voice, instruct=instruct, text="Hi").prompt.text_ids)
        for voice, instruct in ((None, ""), (None, "Deep"), ("makima", "Deep"))
    ]
    assert lengths[0] + 5 + len("Deep") == lengths[1] == lengths[2]
    roomy = Preparation(
        designing,
        replace(CONFIG, max_instruct_tokens=200),
        VoiceBook(designing.model, read_manifests(VOICES), "makima"),
    )
    assert len(roomy.prepare(Speak(text="Hi"), Listener()).prompt.text_ids) > lengths[1]


def test_ids_are_unlike(checkpoint: Checkpoint) -> None:
    one = preparation(checkpoint)
    assert len({one.prepare(Speak(text="Hi"), Listener()).id for _ in range(50)}) == 50
