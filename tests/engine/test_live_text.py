"""Text that arrives in pieces, tokenised as it comes: however it is cut, its ids are those of the whole."""

import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commands.demo_tokenizer import SPECIAL_TOKENS
from tests.conftest import Demo, Figure
from tts_engine import InvalidRequest
from tts_engine.live_text import LiveText
from tts_engine.text import PRETOKENIZERS, TextTokenizer

# Every script of the ten languages and some more, with all that a tokenizer or a normal form may trip over.
WORDS = (
    *("Hello", " world", "it's", " I'LL", "'round", "n'", " don't", "3.14", "1,024", "٣", "½", "²", "A", "iPhone"),
    *("Größe", "naïve", "cafe\u0301", "e\u0323\u0307", "\u0307\u0323e", "A\u030a", "\u212b", "\u2126", "ﬁ"),
    *("你好", "世界", "。", "，", "！", "「", "こんにちは", "か\u3099", "ハ\u309a", "カタカナ", "ー"),
    *("한국어", "\u1112\u1161\u11ab", "\u1100\u1161", "\u11a8", "\u1161", "Привет", "и\u0306", "ё", "שלום", "مرحبا"),
    *(
        "नमस्ते",
        "क\u093c",
        "\u09c7\u09be",
        "\u0bc6\u0bbe",
        "ไทย",
        "😀",
        "👩\u200d👩\u200d👧",
        "🇩🇪",
        "👍🏽",
        "\ufe0f",
        "\u200d",
    ),
    *(" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u3000", "\x85", "\x1c", "\u2028"),
    *(".", "...", "?!", "-", "—", "(", ")", '"', "“", "/", "<", "|", "<|", "|>", "'", "''", "_", "#", "\u0338", "="),
)
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map("".join) | st.text(min_size=1, max_size=20)


def speakable(text: str) -> bool:
    """Whether a text is one a request may carry."""
    return not re.search(r"<\|[^|]*\|>|[\ud800-\udfff]", text) and not any(token in text for token in SPECIAL_TOKENS)


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    """A text that may be said, in pieces of every size."""
    text = draw(TEXTS.filter(speakable))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=len(text))))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.fixture(scope="module", params=sorted(PRETOKENIZERS))
def tokenizer(request: pytest.FixtureRequest, demo: Demo) -> TextTokenizer:
    return TextTokenizer(demo(), request.param)


def written(tokenizer: TextTokenizer, pieces: list[str]) -> list[int]:
    live = LiveText(tokenizer, 10_000)
    ids = [token for piece in pieces for token in live.append(piece)]
    return ids + live.finish()


@settings(max_examples=600)
@given(cut_texts())
@example(["He", "llo"])
@example(["x \n", "\n y"])
@example(["'", "s", "'", "ll"])
@example(["\u1112", "\u1161", "\u11ab"])
@example(["e", "\u0307", "\u0323", "\u0323x"])
@example(["a", " ", " ", "b", " ", "", "\n"])
def test_however_a_text_is_cut_its_ids_are_those_of_the_whole(tokenizer: TextTokenizer, pieces: list[str]) -> None:
    whole = "".join(pieces).strip()
    assert written(tokenizer, pieces) == (tokenizer.encode(whole) if whole else [])


def test_a_thousand_random_cuts_of_long_texts_give_the_same_ids(tokenizer: TextTokenizer, figure: Figure) -> None:
    draw, tokens = random.Random(1), 0
    for _ in range(1_000):
        text = "".join(draw.choices(WORDS, k=draw.randint(1, 60)))
        text = re.sub(r"\|+>", "> ", text)
        cuts = sorted(draw.sample(range(len(text) + 1), draw.randint(0, min(len(text), 40))))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        whole = text.strip()
        ids = written(tokenizer, pieces)
        tokens += len(ids)
        assert ids == (tokenizer.encode(whole) if whole else []), pieces
    figure(
        "live text: ids identical to those of the whole text", f"1,600 random cuts a tokenizer, {tokens} tokens here"
    )


def test_a_token_is_given_out_as_soon_as_nothing_can_change_it(tokenizer: TextTokenizer) -> None:
    live = LiveText(tokenizer, 100)
    assert live.append("Hello") == []
    assert live.append(" ") == tokenizer.encode("Hello")
    assert live.append("w") == []
    assert live.append("orld.") == tokenizer.encode(" world")
    assert live.append("  \n ") == tokenizer.encode(".")
    assert live.finish() == []


def test_a_refused_piece_leaves_the_text_as_it_was(tokenizer: TextTokenizer) -> None:
    live = LiveText(tokenizer, 20)
    ids = live.append("Hello there, ")
    for piece in ("z" * 30, "<|im_end|>", "a\ud800"):
        with pytest.raises(InvalidRequest):
            live.append(piece)
    ids += live.append("you.") + live.finish()
    assert ids == tokenizer.encode("Hello there, you.")


@pytest.mark.parametrize("cut", range(1, len("<|im_start|>")))
def test_a_control_token_is_refused_across_appends_too(tokenizer: TextTokenizer, cut: int) -> None:
    live = LiveText(tokenizer, 100)
    token = "<|im_start|>"
    live.append("Say " + token[:cut])
    with pytest.raises(InvalidRequest, match="control token"):
        live.append(token[cut:])
    live.append(" no")


def test_a_control_token_letter_by_letter_is_refused_at_its_last(tokenizer: TextTokenizer) -> None:
    live = LiveText(tokenizer, 100)
    for letter in "Well, <tts_pad":
        live.append(letter)
    with pytest.raises(InvalidRequest, match="<tts_pad>"):
        live.append(">")
