"""From a request to an utterance: ranges, defaults, and what is refused before anything is queued."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Demo
from tests.engine.conftest import VOICES
from tests.engine.fakes import Listener
from tts_engine import EngineConfig, InvalidRequest, LoadError, Speak, Unsupported
from tts_engine.checkpoint import Checkpoint
from tts_engine.preparation import Preparation
from tts_engine.prompt import Prompt
from tts_engine.request import Utterance
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import REQUEST_VOICE, Voice, VoiceBook

CONFIG = EngineConfig(max_text_tokens=200, max_instruct_tokens=100, max_total_frames=900)
RECORDING = np.random.default_rng(1).uniform(-0.4, 0.4, 30_000).astype(np.float32)


def preparation(checkpoint: Checkpoint, config: EngineConfig = CONFIG) -> Preparation:
    return Preparation(checkpoint, config, VoiceBook(checkpoint.model, VoiceLibrary(VOICES), "makima"))


def prepared_with_voice(checkpoint: Checkpoint, **values: Any) -> tuple[Utterance, Voice]:
    return preparation(checkpoint).prepare(Speak(**{"text": "Hello", **values}), Listener())


def prepared(checkpoint: Checkpoint, **values: Any) -> Utterance:
    return prepared_with_voice(checkpoint, **values)[0]


def prompt_of(checkpoint: Checkpoint, **values: Any) -> Prompt:
    """The prompt of an utterance of one segment."""
    utterance = prepared(checkpoint, **values)
    (segment,) = utterance.script.segments
    return preparation(checkpoint).prompts.fill(utterance.template, segment.ids)


@pytest.fixture
def base(demo: Demo) -> Checkpoint:
    return Checkpoint.read(demo(model_type="base"))


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


def test_an_utterance_may_be_as_long_as_the_engine_allows_or_as_was_asked(checkpoint: Checkpoint) -> None:
    assert prepared(checkpoint).max_frames == 900
    assert prepared(checkpoint, max_frames=100).max_frames == 100


def test_a_text_that_is_too_long_is_refused_naming_both_numbers(checkpoint: Checkpoint) -> None:
    assert prepared(checkpoint, text="x" * 200)
    with pytest.raises(InvalidRequest, match="text has 201 tokens; the limit is 200"):
        prepared(checkpoint, text="x" * 201)


def test_a_huge_text_is_refused_by_its_characters_before_they_are_counted_as_tokens(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidRequest, match="text has 2000000 characters; the limit is 3200"):
        prepared(checkpoint, text="abc " * 500_000)


@pytest.mark.parametrize("name", ["instruct", "reference_text"])
def test_a_huge_style_or_transcript_is_refused_by_its_characters_too(demo: Demo, base: Checkpoint, name: str) -> None:
    large = Checkpoint.read(demo(size="1b7"))
    reference = {"reference_audio": RECORDING, "reference_sample_rate": 24_000} if name == "reference_text" else {}
    with pytest.raises(InvalidRequest, match=rf"{name} has \d{{7}} characters; the limit is"):
        prepared(base if reference else large, **{name: "abc " * 500_000}, **reference)


def test_a_refused_placement_is_named_with_those_there_are(checkpoint: Checkpoint) -> None:
    assert prompt_of(checkpoint) == prompt_of(checkpoint, text_placement="prefill")
    assert prompt_of(checkpoint, text_placement="prefill").trailing_ids == ()
    assert prompt_of(checkpoint, text_placement="stream").trailing_ids
    with pytest.raises(InvalidRequest, match="text_placement must be 'prefill' or 'stream', got 'Stream'"):
        prepared(checkpoint, text_placement="Stream")


def test_a_base_checkpoint_feeds_text_frame_by_frame_unless_asked_otherwise(base: Checkpoint) -> None:
    assert prepared(base).template.placement == "stream"
    assert prepared(base, text_placement="prefill").template.placement == "prefill"


def test_live_text_is_fed_frame_by_frame_and_needs_a_name(checkpoint: Checkpoint) -> None:
    live = prepared(checkpoint, text="", utterance="one", text_complete=False)
    assert live.template.placement == "stream"
    assert (live.script.live, live.script.complete) == ([], False)
    with pytest.raises(InvalidRequest, match="text_placement must be 'stream' for live text, got 'prefill'"):
        prepared(checkpoint, utterance="one", text_complete=False, text_placement="prefill")
    with pytest.raises(InvalidRequest, match="text_complete is false, but no utterance is named"):
        prepared(checkpoint, text_complete=False)


def test_a_recording_is_cloned_by_a_base_checkpoint_alone(base: Checkpoint, checkpoint: Checkpoint) -> None:
    given = {"reference_audio": RECORDING, "reference_sample_rate": 24_000}
    utterance, voice = prepared_with_voice(base, **given)
    assert voice.reference is not None
    assert np.array_equal(voice.reference.samples, RECORDING)
    assert (voice.id, utterance.description["voice"]) == (REQUEST_VOICE, REQUEST_VOICE)
    assert utterance.template.frames == 0
    in_context, _ = prepared_with_voice(base, **given, reference_text=" Good evening. ")
    assert in_context.template.frames == 16
    with pytest.raises(Unsupported, match="reference_audio needs a Base checkpoint; this one is custom_voice"):
        prepared(checkpoint, **given)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"reference_sample_rate": 24_000}, "reference_sample_rate was given without reference_audio"),
        ({"reference_text": "words"}, "reference_text was given without reference_audio"),
        ({"reference_audio": RECORDING}, "reference_audio needs reference_sample_rate"),
        (
            {"reference_audio": RECORDING, "reference_sample_rate": 24_000, "voice": "makima"},
            "a request takes voice or reference_audio, not both",
        ),
    ],
)
def test_half_a_reference_is_refused_by_name(base: Checkpoint, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepared(base, **values)
    assert str(caught.value) == complaint


def test_silence_is_left_out_unless_it_is_asked_for(checkpoint: Checkpoint) -> None:
    choices = [prepared(checkpoint, trim_leading_silence=choice).trim_leading_silence for choice in (None, True, False)]
    assert choices == [True, True, False]


def test_an_ignored_instruct_is_told(demo: Demo, checkpoint: Checkpoint) -> None:
    large = Checkpoint.read(demo(size="1b7"))
    assert prepared(checkpoint, instruct="Sadly").description["ignored"] == ["instruct"]
    assert prepared(checkpoint).description["ignored"] == []
    assert prepared(large, instruct="Sadly").description["ignored"] == []


def test_a_voice_is_described_by_its_folder_or_by_the_request(demo: Demo) -> None:
    for model_type in ("voice_design", "custom_voice"):
        checkpoint = Checkpoint.read(demo(model_type=model_type, size="1b7"))
        lengths = [
            len(prompt_of(checkpoint, voice=voice, instruct=instruct, text="Hi").text_ids)
            for voice, instruct in ((None, ""), (None, "Deep"), ("makima", "Deep"), (None, None))
        ]
        assert lengths[0] + 5 + len("Deep") == lengths[1] == lengths[2]
        assert lengths[3] > lengths[1]


def test_a_voice_whose_language_this_checkpoint_lacks_is_told_at_the_start_and_refused_by_name(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "manifest.json").write_text('{"name": "One", "speaker": "ryan", "language": "klingon"}')
    library = VoiceLibrary(tmp_path)
    checked = Preparation(checkpoint, CONFIG, VoiceBook(checkpoint.model, library, "one"))
    checked.check_voices(library)
    complaint = "language of voice 'one', 'klingon' is not one of auto"
    assert complaint in caplog.text
    with pytest.raises(InvalidRequest, match=complaint):
        checked.prepare(Speak(text="Hi", voice="one"), Listener())
    assert checked.prepare(Speak(text="Hi", voice="one", language="en"), Listener())


def test_a_voice_that_cannot_be_read_is_refused_at_the_start(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    library = VoiceLibrary(tmp_path)
    with pytest.raises(LoadError, match=r"one/manifest\.json"):
        Preparation(checkpoint, CONFIG, VoiceBook(checkpoint.model, library, "one")).check_voices(library)


def test_ids_are_unlike(checkpoint: Checkpoint) -> None:
    one = preparation(checkpoint)
    assert len({one.prepare(Speak(text="Hi"), Listener())[0].id for _ in range(50)}) == 50
