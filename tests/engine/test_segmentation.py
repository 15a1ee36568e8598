"""Long text is cut where a speaker would breathe, and nowhere else, in ten languages; and nothing of it is lost."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Demo
from tts_engine.segmentation import Segment, Segmenter
from tts_engine.text import TextTokenizer


@pytest.fixture(scope="module")
def tokenizer(demo: Demo) -> TextTokenizer:
    return TextTokenizer(demo(), "qwen2")


def cut(tokenizer: TextTokenizer, text: str, language: str, limit: int) -> list[Segment]:
    return Segmenter(tokenizer, limit).cut(text, language)


def check_whole(text: str, segments: list[Segment]) -> None:
    """Every character that is no space is in one segment, in order, and a segment says what stands in its range."""
    places = [place for segment in segments for place in range(segment.start, segment.end)]
    assert places == sorted(set(places))
    assert {place for place, character in enumerate(text) if not character.isspace()} <= set(places)
    assert all(segment.text == text[segment.start : segment.end] == segment.text.strip() for segment in segments)


# Each text is cut between its parts and nowhere else, however short the segments are to be.
PLACES: dict[str, list[tuple[str, ...]]] = {
    "english": [
        ("Dr. Smith paid $3.50 on Jan. 5 for it.", "He left."),
        ('She said "No. Never!" and left.', "Then it rained."),
        ("“One. Two. Three.” he said.", "We were done."),
        ("It is what it is.", "We all have to go.", "Give it to me.", "Thank you."),
        ("He was 45.", "She was only 30.", "They met in May."),
        ("At 5 p.m. the U.S. team, i.e. all of it, met J. R. Smith.", "Good."),
        ("Mr. and Mrs. Smith live in St. James Ave. No. 5 with Prof. Lowe.", "Good."),
        ("It weighs approx. 5 kg (see vol. 3, p. 12).", "Good."),
        ("Version 2.10.3 costs 1,024.50 dollars.", "Good."),
        ("Wait... what?", "Yes!"),
    ],
    "german": [
        ("Das kostet z. B. 3,50 € am 5. Mai.", "Gut."),
        ("Dr. Müller u. a. kamen um 10.30 Uhr.", "Er sagte: „Nein. Nie!“ Dann ging er."),
        ("Am 3. Oktober 1990 war es so weit, d. h. endlich.", "Es ist so.", "Ende."),
        ("Prof. Dr. Kant wohnte in der Hauptstr. Nr. 5 bzw. daneben.", "Gut."),
    ],
    "french": [
        ("M. Dupont et Mme Durand paient 3,50 euros.", "Il dit : « Non. Jamais ! » Puis il part."),
        ("Voir p. 3, art. 5, etc. pour la suite.", "Fin."),
        ("C'est pour toi.", "C'est à lui.", "Merci."),
    ],
    "spanish": [
        ("El Sr. López y la Sra. Gómez pagaron 3.50 pesos.", "Dijo: «No. Nunca.» Luego salió."),
        ("¿Qué pasa?", "¡Ven aquí!", "Vale."),
        ("La Dra. Ruiz llegó a EE. UU. por p. ej. la pág. 5 del libro.", "Fin."),
    ],
    "italian": [
        ("Il sig. Rossi pagò 3,50 euro.", "Disse: «No. Mai.» Poi uscì."),
        ("Il dott. Bianchi legge a pag. 3 del libro.", "Fine."),
    ],
    "portuguese": [
        ("O Sr. Silva pagou 3,50 reais.", "Disse: “Não. Nunca.” Depois saiu."),
        ("A Dra. Ana leu a pág. 3 do livro.", "Fim."),
    ],
    "russian": [
        ("Это стоит 3,50 руб. за штуку, т. е. дорого.", "Он сказал: «Нет. Никогда!» Потом ушёл."),
        ("А. С. Пушкин родился в 1799 г. в Москве.", "Да, это он.", "Хорошо."),
    ],
    "chinese": [
        ("他说：“不。从来没有！”", "然后走了。", "价格是3.14元。", "好。"),
        ("「一。二。三。」", "他说。", "你好！", "世界？", "是的……对。"),
    ],
    "japanese": [
        ("彼は「いいえ。絶対に！」と言った。", "そして去った。", "値段は3.14ドルです。"),
        ("はい。", "いいえ！", "本当ですか？"),
    ],
    "korean": [
        ("그는 집에 갔다.", "밥이 있다.", "운동을 했다.", "정말 좋다.", "끝났습니다."),
        ('그는 "아니. 절대!" 라고 했다.', "값은 3.14달러입니다.", "끝났어요."),
    ],
}
PLACE_CASES = [(language, parts) for language, texts in PLACES.items() for parts in texts]


def _inner_cuts(
    tokenizer: TextTokenizer, language: str, parts: tuple[str, ...]
) -> tuple[list[str], list[int], list[int]]:
    """The segments of the parts joined, and the ends of segments and of parts, when each part alone just fits."""
    joint = "" if language in ("chinese", "japanese") else " "
    text = joint.join(parts)
    limit = max(len(tokenizer.encode(part)) for part in parts)
    segments = cut(tokenizer, text, language, limit)
    check_whole(text, segments)
    ends = list(itertools.accumulate(len(part) + len(joint) for part in parts))
    return [s.text for s in segments], [s.end for s in segments], [end - len(joint) for end in ends]


@pytest.mark.parametrize(("language", "parts"), PLACE_CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_no_number_abbreviation_or_quotation_is_cut(
    tokenizer: TextTokenizer, language: str, parts: tuple[str, ...]
) -> None:
    segments, ends, allowed = _inner_cuts(tokenizer, language, parts)
    assert set(ends) <= set(allowed), segments
    assert len(segments) > 1


@pytest.mark.parametrize(
    ("language", "opening", "sentence", "closing"),
    [
        ("english", 'She said: "', "Dr. Lowe told me the truth about it, all of it. ", '"'),
        ("german", "Sie sagte: „", "Frau Dr. Lowe sagte z. B. nie etwas, auch nicht mir. ", "“"),
        ("chinese", "她说：“", "他把一切都告诉了我，一点也没有隐瞒。", "”"),
    ],
)
def test_a_quotation_too_long_by_itself_is_cut_where_its_sentences_end(
    tokenizer: TextTokenizer, language: str, opening: str, sentence: str, closing: str
) -> None:
    text = opening + (sentence * 8).strip() + closing
    segments = cut(tokenizer, text, language, 2 * len(tokenizer.encode(opening + sentence)))
    check_whole(text, segments)
    assert len(segments) >= 4
    assert all(segment.text.endswith(sentence.strip()) for segment in segments[:-1]), [s.text for s in segments]


def test_a_sentence_too_long_by_itself_is_cut_at_clauses(tokenizer: TextTokenizer) -> None:
    text = "First this happened, then that came along; and after it: the third, which nobody knew, ended it all"
    for segment in cut(tokenizer, text, "english", 40)[:-1]:
        assert segment.text[-1] in ",;:"
    check_whole(text, cut(tokenizer, text, "english", 40))


def test_a_clause_too_long_by_itself_is_cut_between_words(tokenizer: TextTokenizer) -> None:
    text = " ".join(f"word{n}" for n in range(60))
    segments = cut(tokenizer, text, "english", 30)
    check_whole(text, segments)
    assert " ".join(segment.text for segment in segments) == text
    assert all(len(segment.ids) <= 30 for segment in segments)


def test_a_word_too_long_by_itself_is_cut_all_the_same(tokenizer: TextTokenizer) -> None:
    text = "z" * 500
    segments = cut(tokenizer, text, "english", 30)
    check_whole(text, segments)
    assert all(len(segment.ids) <= 30 for segment in segments)


def test_a_text_that_fits_is_left_whole(tokenizer: TextTokenizer) -> None:
    text = "  One. Two. Three.\n"
    (segment,) = cut(tokenizer, text, "english", 200)
    assert (segment.text, segment.start, segment.end) == ("One. Two. Three.", 2, 18)


def test_all_segments_but_the_last_are_of_about_equal_length(tokenizer: TextTokenizer) -> None:
    draw = random.Random(1)
    story = " ".join(f"A {'very ' * draw.randint(0, 20)}long sentence." for _ in range(60))
    lengths = [len(segment.ids) for segment in cut(tokenizer, story, "english", 800)]
    assert min(lengths[:-1]) > 0.6 * max(lengths)


PIECES = st.sampled_from(
    [
        *"aB .!?,;:\n\t\"'()“”«»„。，！？「」…é1\u00a0\u3000\u0301",
        "word",
        "Dr.",
        "3.5",
        "z. B.",
        "你好",
        "😀",
        "\r\n",
        "한국어",
        "А.",
    ]
)


@settings(max_examples=300)
@given(
    st.lists(PIECES, min_size=1, max_size=80).map("".join),
    st.sampled_from([*PLACES, "auto"]),
    st.integers(4, 40),
)
def test_whatever_the_text_nothing_of_it_is_lost_and_nothing_is_too_long(
    tokenizer: TextTokenizer, text: str, language: str, limit: int
) -> None:
    if text.strip():
        segments = cut(tokenizer, text, language, limit)
        check_whole(text, segments)
        assert all(len(segment.ids) <= limit for segment in segments)


@pytest.mark.parametrize("language", [*PLACES, "auto"])
def test_a_letter_a_fixed_space_and_a_full_stop_are_no_trouble(tokenizer: TextTokenizer, language: str) -> None:
    text = "Vitamin D\u00a0. and so on. " * 8
    check_whole(text, cut(tokenizer, text, language, 40))
