"""The prompts of cloned voices, position by position: by their sound alone, and in context behind a recording."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.prompt_kit import Kit, build
from tts_engine.prompt import NOTHING, REFERENCE, VOICE


def test_a_voice_cloned_by_its_sound_stands_where_a_speaker_would(kit: Callable[..., Kit]) -> None:
    k, named = kit(model_type="base"), kit()
    serena = named.speakers["serena"]
    for placement in ("prefill", "stream"):
        for language in ("auto", "german"):
            cloned = build(k, k.clone(5, None), language, placement)
            spoken = build(named, named.voice("serena"), language, placement)
            assert cloned.text_ids == spoken.text_ids
            assert cloned.codec_ids == tuple(VOICE if code == serena else code for code in spoken.codec_ids)
            assert cloned.codec_ids.count(VOICE) == 1
            assert (cloned.trailing_ids, cloned.prefix) == (spoken.trailing_ids, spoken.prefix)


def test_a_base_checkpoint_reads_no_instruct(kit: Callable[..., Kit]) -> None:
    for size in ("0b6", "1b7"):
        k = kit(size, "base")
        assert not k.builder.serves_instruct
        plain, instructed = (build(k, k.clone(5, None), "auto", "stream", instruct) for instruct in (None, "Sad"))
        assert plain == instructed


def opening_of(k: Kit) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The two tracks before the text, for a clone that speaks any language."""
    text = (*k.role, *[k.pad] * 4, k.bos)
    return text, (*[NOTHING] * 3, k.nothink, k.think_bos, k.think_eos, VOICE, k.codec_pad)


def test_in_context_a_text_longer_than_the_recording_goes_on_beside_the_frames(kit: Callable[..., Kit]) -> None:
    k = kit(model_type="base")
    prompt = build(k, k.clone(3, "Yes"), "auto", "stream")
    text, codec = opening_of(k)
    assert prompt.text_ids == (*text, *k.spell("YesH"))
    assert prompt.codec_ids == (*codec, k.codec_bos, *[REFERENCE] * 3)
    assert prompt.trailing_ids == (*k.spell("ey"), k.eos)
    assert prompt.prefix == len(text) + 3
    assert prompt.complete


def test_in_context_a_text_shorter_than_the_recording_is_followed_by_padding(kit: Callable[..., Kit]) -> None:
    k = kit(model_type="base")
    prompt = build(k, k.clone(9, "Yes"), "auto", "stream")
    text, codec = opening_of(k)
    assert prompt.text_ids == (*text, *k.spell("YesHey"), k.eos, *[k.pad] * 3)
    assert prompt.codec_ids == (*codec, k.codec_bos, *[REFERENCE] * 9)
    assert prompt.trailing_ids == ()
    assert prompt.prefix == len(text) + 3
    assert prompt.complete


@pytest.mark.parametrize(("frames", "trailing"), [(5, 1), (6, 0)])
def test_in_context_a_text_may_end_with_the_recording(kit: Callable[..., Kit], frames: int, trailing: int) -> None:
    k = kit(model_type="base")
    prompt = build(k, k.clone(frames, "Yes"), "auto", "stream")
    assert prompt.text_ids[8:] == (*k.spell("YesHey"), k.eos)[: frames + 1]
    assert prompt.trailing_ids == (k.eos,) * trailing


def test_in_context_a_transcript_longer_than_the_recording_is_fed_beside_the_frames_too(
    kit: Callable[..., Kit],
) -> None:
    k = kit(model_type="base")
    prompt = build(k, k.clone(2, "Yeszzz"), "auto", "stream")
    text, codec = opening_of(k)
    assert prompt.text_ids == (*text, *k.spell("Yes"))
    assert prompt.codec_ids == (*codec, k.codec_bos, REFERENCE, REFERENCE)
    assert prompt.trailing_ids == (*k.spell("zzzHey"), k.eos)
    assert prompt.prefix == len(text) + 2


@pytest.mark.parametrize("frames", [2, 9])
def test_in_context_all_text_may_come_before_the_recording(kit: Callable[..., Kit], frames: int) -> None:
    k = kit(model_type="base")
    prompt = build(k, k.clone(frames, "Yes"), "auto", "prefill")
    text, codec = opening_of(k)
    assert prompt.text_ids == (*text, *k.spell("YesHey"), k.eos, *[k.pad] * (frames + 1))
    assert prompt.codec_ids == (*codec, *[k.codec_pad] * 7, k.codec_bos, *[REFERENCE] * frames)
    assert prompt.trailing_ids == ()
    assert prompt.prefix == len(text) + 3
    assert prompt.complete


@given(transcript=st.integers(0, 20), frames=st.integers(1, 30), body=st.integers(1, 24), complete=st.booleans())
@settings(max_examples=150)
def test_a_live_text_may_begin_when_the_prompt_is_filled_and_not_before(
    kit: Callable[..., Kit], transcript: int, frames: int, body: int, complete: bool
) -> None:
    k = kit(model_type="base")
    voice = k.clone(frames, "z" * transcript or None)
    template = k.builder.template(voice, language="auto", instruct=None, placement="stream")
    needed = template.tokens_needed
    assert needed == max(1, (frames + 1 - transcript) if transcript else 1)
    ids = k.spell("x" * max(body, needed))
    begun, whole = k.builder.fill(template, ids, complete=False), k.builder.fill(template, ids)
    assert (begun.text_ids, begun.codec_ids, begun.prefix) == (whole.text_ids, whole.codec_ids, whole.prefix)
    assert k.pad not in begun.text_ids[len(template.opening) :]
    assert begun.trailing_ids + k.builder.end_of_text() == whole.trailing_ids
    said = begun.text_ids[len(template.opening) :] + begun.trailing_ids
    assert said == (*k.spell("z" * transcript), *ids)


def test_a_text_that_ends_before_the_prompt_is_filled_is_padded(kit: Callable[..., Kit]) -> None:
    k = kit(model_type="base")
    template = k.builder.template(k.clone(9, "Yes"), language="auto", instruct=None, placement="stream")
    assert template.tokens_needed == 7
    prompt = k.builder.fill(template, k.spell("Hey!"))
    assert prompt.text_ids[8:] == (*k.spell("YesHey!"), k.eos, k.pad, k.pad)
