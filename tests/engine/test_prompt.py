"""The prompt template, position by position, written out with the numbers of the checkpoint's own files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.conftest import Demo
from tts_engine import EngineConfig, InvalidRequest
from tts_engine.checkpoint import Checkpoint
from tts_engine.prompt import NOTHING, Placement, Prompt, PromptBuilder
from tts_engine.text import TextTokenizer
from tts_engine.voices import Voice

CONFIG = EngineConfig(max_text_tokens=24, max_instruct_tokens=12)


class Kit:
    """A builder for one checkpoint, and its numbers read anew from its files."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = Checkpoint.read(folder)
        self.builder = PromptBuilder(
            self.checkpoint.model,
            TextTokenizer(folder, "qwen2"),
            max_text_tokens=CONFIG.max_text_tokens,
            max_instruct_tokens=CONFIG.max_instruct_tokens,
        )
        top: dict[str, Any] = json.loads((folder / "config.json").read_text())
        talker = top["talker_config"]
        self.pad, self.bos, self.eos = (top[f"tts_{name}_token_id"] for name in ("pad", "bos", "eos"))
        self.codec_pad, self.codec_bos = talker["codec_pad_id"], talker["codec_bos_id"]
        self.think, self.nothink = talker["codec_think_id"], talker["codec_nothink_id"]
        self.think_bos, self.think_eos = talker["codec_think_bos_id"], talker["codec_think_eos_id"]
        self.languages, self.speakers = talker["codec_language_id"], talker["spk_id"]
        vocabulary = json.loads((folder / "vocab.json").read_text())
        newline = vocabulary["Ċ"]
        self.role = (top["im_start_token_id"], top["assistant_token_id"], newline)
        self.user = (top["im_start_token_id"], vocabulary["user"], newline)
        self.user_end = (top["im_end_token_id"], newline)
        self.letters = vocabulary

    def voice(self, speaker: str, dialect: str | None = None) -> Voice:
        return Voice(id=speaker, speaker_id=self.speakers[speaker], dialect=dialect)

    def spell(self, text: str) -> tuple[int, ...]:
        return tuple(self.letters[letter] for letter in text)


@pytest.fixture(scope="module")
def kit(demo: Demo) -> Callable[..., Kit]:
    made: dict[tuple[str, str], Kit] = {}

    def make(size: str = "0b6", model_type: str = "custom_voice") -> Kit:
        key = (size, model_type)
        return made.setdefault(key, Kit(demo(size=size, model_type=model_type)))

    return make


def build(kit: Kit, voice: Voice, language: str, placement: Placement, instruct: str | None = None) -> Prompt:
    return kit.builder.build("Hey", voice, language=language, instruct=instruct, placement=placement)


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
    assert prompt.text_tokens == 3


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
    assert prompt.text_tokens == 3


def test_a_text_of_one_token_fed_frame_by_frame_is_followed_by_its_end(kit: Callable[..., Kit]) -> None:
    k = kit()
    prompt = k.builder.build("H", k.voice("ryan"), language="auto", instruct=None, placement="stream")
    assert prompt.trailing_ids == (k.eos,)


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


def test_too_long_texts_and_instructs_are_refused_naming_both_numbers(kit: Callable[..., Kit]) -> None:
    k = kit("1b7")
    serena = k.voice("serena")
    k.builder.build("x" * 24, serena, language="auto", instruct="y" * 12, placement="prefill")
    with pytest.raises(InvalidRequest, match="text has 25 tokens; the limit is 24"):
        k.builder.build("x" * 25, serena, language="auto", instruct=None, placement="prefill")
    with pytest.raises(InvalidRequest, match="instruct has 13 tokens; the limit is 12"):
        k.builder.build("x", serena, language="auto", instruct="y" * 13, placement="prefill")


@given(
    text=st.one_of(st.text(min_size=1, max_size=30), st.just("x" * 24)),
    instruct=st.one_of(st.none(), st.text(max_size=14), st.just("y" * 12)),
    speaker=st.sampled_from(["serena", "dylan"]),
    language=st.sampled_from(["auto", "chinese", "russian"]),
    placement=st.sampled_from(["prefill", "stream"]),
)
@settings(max_examples=200)
def test_no_accepted_request_has_a_longer_prompt_than_the_engine_makes_room_for(
    kit: Callable[..., Kit],
    text: str,
    instruct: str | None,
    speaker: str,
    language: str,
    placement: Placement,
) -> None:
    k = kit("1b7")
    try:
        prompt = k.builder.build(text, k.voice(speaker), language=language, instruct=instruct, placement=placement)
    except InvalidRequest:
        assume(False)
    assert len(prompt.text_ids) == len(prompt.codec_ids) <= CONFIG.max_prompt_length
    assert len(prompt.trailing_ids) <= CONFIG.max_text_tokens
    assert prompt.text_ids.count(k.eos) + prompt.trailing_ids.count(k.eos) == 1
