"""The prompt template, position by position, written out with the numbers of the checkpoint's own files."""

from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.engine.prompt_kit import CONFIG, Kit, build
from tts_engine import InvalidRequest
from tts_engine.prompt import NOTHING, Placement
from tts_engine.segmentation import Segmenter
from tts_engine.voices import Voice


def test_a_named_speaker_with_all_text_before_the_first_frame(kit: Callable[..., Kit]) -> None:
    k = kit()
    prompt = build(k, k.voice("serena"), "english", "prefill")
    assert prompt.text_ids == (*k.role, *[k.pad] * 5, k.bos, *k.spell("Hey"), k.eos, k.pad)
    assert prompt.codec_ids == (
        *[NOTHING] * 3,
        *(k.think, k.think_bos, k.languages["english"], k.think_eos, k.speakers["serena"], k.codec_pad),
        *[k.codec_pad] * 4,
        k.codec_bos,
    )
    assert prompt.trailing_ids == ()
    assert prompt.complete
    assert prompt.prefix == 9


def test_a_named_speaker_with_text_fed_frame_by_frame(kit: Callable[..., Kit]) -> None:
    k = kit()
    prompt = build(k, k.voice("ryan"), "auto", "stream")
    h, e, y = k.spell("Hey")
    assert prompt.text_ids == (*k.role, *[k.pad] * 4, k.bos, h)
    assert prompt.codec_ids == (
        *[NOTHING] * 3,
        *(k.nothink, k.think_bos, k.think_eos, k.speakers["ryan"], k.codec_pad, k.codec_bos),
    )
    assert prompt.trailing_ids == (e, y, k.eos)
    assert prompt.complete
    assert prompt.prefix == 8


def test_a_text_of_one_token_fed_frame_by_frame_is_followed_by_its_end(kit: Callable[..., Kit]) -> None:
    k = kit()
    prompt = build(k, k.voice("ryan"), "auto", "stream", text="H")
    assert prompt.trailing_ids == (k.eos,)


def test_a_text_that_is_not_complete_has_no_end_yet(kit: Callable[..., Kit]) -> None:
    k = kit()
    whole, begun = (build(k, k.voice("ryan"), "auto", "stream", complete=complete) for complete in (True, False))
    assert (begun.text_ids, begun.codec_ids, begun.prefix) == (whole.text_ids, whole.codec_ids, whole.prefix)
    assert begun.trailing_ids == k.spell("ey")
    assert begun.trailing_ids + k.builder.end_of_text() == whole.trailing_ids
    assert not begun.complete


def test_the_beginning_that_is_shared_does_not_depend_on_the_text(kit: Callable[..., Kit]) -> None:
    small, base = kit(), kit(model_type="base")
    voices = (
        (small, small.voice("ryan")),
        (base, base.clone(3, None)),
        (base, base.clone(3, "Yes")),
        (base, base.clone(9, "Yes")),
        (base, base.clone(2, "Yeszzz")),
    )
    for k, voice in voices:
        for placement in ("prefill", "stream"):
            prompts = [build(k, voice, "auto", placement, text=text) for text in ("H", "Hey", "xyzxyzxyzxyz")]
            starts = {(p.prefix, p.text_ids[: p.prefix], p.codec_ids[: p.prefix]) for p in prompts}
            assert len(starts) == 1
            assert all(0 < prompt.prefix < len(prompt.text_ids) for prompt in prompts)


def test_a_designed_voice_has_its_description_first_and_no_speaker(kit: Callable[..., Kit]) -> None:
    k = kit("1b7", "voice_design")
    prompt = build(k, Voice(id="any"), "german", "prefill", instruct=" Calm ")
    opening = (*k.user, *k.spell("Calm"), *k.user_end, *k.role)
    assert prompt.text_ids == (*opening, *[k.pad] * 4, k.bos, *k.spell("Hey"), k.eos, k.pad)
    assert prompt.codec_ids == (
        *[NOTHING] * len(opening),
        *(k.think, k.think_bos, k.languages["german"], k.think_eos, k.codec_pad),
        *[k.codec_pad] * 4,
        k.codec_bos,
    )


def test_the_large_model_reads_an_instruct_and_the_small_one_drops_it(kit: Callable[..., Kit]) -> None:
    large, small = kit("1b7"), kit("0b6")
    assert large.builder.serves_instruct
    assert not small.builder.serves_instruct
    for k, reads in ((large, True), (small, False)):
        without, with_one = (build(k, k.voice("serena"), "auto", "stream", i) for i in (None, "Sad"))
        assert build(k, k.voice("serena"), "auto", "stream", "") == without
        added = (*k.user, *k.spell("Sad"), *k.user_end) if reads else ()
        assert with_one.text_ids == added + without.text_ids
        assert with_one.codec_ids == (NOTHING,) * len(added) + without.codec_ids


@pytest.mark.parametrize("language", ["chinese", "auto"])
def test_a_dialect_speaker_speaks_dialect_for_chinese_and_auto(kit: Callable[..., Kit], language: str) -> None:
    k = kit()
    for speaker, dialect in (("dylan", "beijing_dialect"), ("eric", "sichuan_dialect")):
        prompt = build(k, k.voice(speaker, dialect), language, "stream")
        assert prompt.codec_ids[3:7] == (k.think, k.think_bos, k.languages[dialect], k.think_eos)


def test_a_dialect_speaker_speaks_other_languages_as_everybody(kit: Callable[..., Kit]) -> None:
    k = kit()
    prompt = build(k, k.voice("dylan", "beijing_dialect"), "french", "stream")
    assert prompt.codec_ids[5] == k.languages["french"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("zh", "chinese"),
        ("en", "english"),
        ("de", "german"),
        ("it", "italian"),
        ("pt", "portuguese"),
        ("es", "spanish"),
        ("ja", "japanese"),
        ("ko", "korean"),
        ("fr", "french"),
        ("ru", "russian"),
        ("zh-CN", "chinese"),
        ("EN-us", "english"),
        (" English ", "english"),
        ("AUTO", "auto"),
        (None, "auto"),
        ("", "auto"),
    ],
)
def test_languages_go_by_name_or_code(kit: Callable[..., Kit], asked: str | None, meant: str) -> None:
    assert kit().builder.language(asked, Voice(id="any")) == meant


def test_a_voice_brings_its_language_and_a_request_overrides_it(kit: Callable[..., Kit]) -> None:
    voice = Voice(id="any", language="Japanese")
    assert kit().builder.language(None, voice) == "japanese"
    assert kit().builder.language("ko", voice) == "korean"
    assert kit().builder.language("auto", voice) == "auto"


@pytest.mark.parametrize("asked", ["klingon", "xx", "beijing_dialect", "english-us", "e" * 500, " "])
def test_an_unknown_language_is_refused_with_a_list_of_those_there_are(kit: Callable[..., Kit], asked: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        kit().builder.language(asked, Voice(id="any"))
    assert "auto, chinese, english, german" in str(caught.value)
    assert "beijing_dialect" not in str(caught.value).replace(repr(asked), "")
    assert len(str(caught.value)) < 300


def test_too_long_instructs_and_transcripts_are_refused_naming_both_numbers(kit: Callable[..., Kit]) -> None:
    k, base = kit("1b7"), kit("1b7", "base")
    serena = k.voice("serena")
    k.builder.template(serena, language="auto", instruct="y" * 12, placement="prefill")
    with pytest.raises(InvalidRequest, match="instruct has 13 tokens; the limit is 12"):
        k.builder.template(serena, language="auto", instruct="y" * 13, placement="prefill")
    base.builder.template(base.clone(3, "z" * 20), language="auto", instruct=None, placement="stream")
    with pytest.raises(InvalidRequest, match="reference_text has 21 tokens; the limit is 20"):
        base.builder.template(base.clone(3, "z" * 21), language="auto", instruct=None, placement="stream")
    with pytest.raises(InvalidRequest, match="reference_text contains the control token"):
        base.builder.template(base.clone(3, "<|im_end|>"), language="auto", instruct=None, placement="stream")


@given(
    text=st.one_of(st.text(min_size=1, max_size=30), st.just("x" * 24)),
    instruct=st.one_of(st.none(), st.text(max_size=14), st.just("y" * 12)),
    voice=st.sampled_from(["serena", "dylan", "", "z" * 20]),
    frames=st.sampled_from([1, 12, 375]),
    language=st.sampled_from(["auto", "chinese", "russian"]),
    placement=st.sampled_from(["prefill", "stream"]),
)
@settings(max_examples=300)
def test_no_accepted_request_has_a_longer_prompt_than_the_engine_makes_room_for(
    kit: Callable[..., Kit],
    text: str,
    instruct: str | None,
    voice: str,
    frames: int,
    language: str,
    placement: Placement,
) -> None:
    named = voice in ("serena", "dylan")
    k = kit("1b7", "custom_voice" if named else "base")
    who = k.voice(voice) if named else k.clone(frames, voice or None)
    segmenter = Segmenter(k.tokenizer, CONFIG.segment_tokens)
    try:
        template = k.builder.template(who, language=language, instruct=instruct, placement=placement)
        k.tokenizer.encode_user(text, "text", CONFIG.max_text_tokens)
    except InvalidRequest:
        assume(False)
    for segment in segmenter.cut(text, language):
        prompt = k.builder.fill(template, segment.ids)
        assert len(prompt.text_ids) == len(prompt.codec_ids) <= CONFIG.max_prompt_length
        assert len(prompt.trailing_ids) <= CONFIG.max_text_tokens + CONFIG.max_reference_text_tokens + 1
        assert prompt.text_ids.count(k.eos) + prompt.trailing_ids.count(k.eos) == 1
