"""Long text is spoken whole and in order, without a gap."""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import Listener
from tests.engine.sounds import TimedListener
from tts_engine import SAMPLES_PER_FRAME, Engine, EngineConfig, Speak
from tts_engine.runner import Runner

EngineWith = Callable[[Runner, EngineConfig], Engine]
# The demo's tokenizer makes nearly every byte a token; a generation is ended early, to hear many.
LONG = EngineConfig(slots=2, max_waiting=64, max_text_tokens=12_000, max_frames=9)

ENGLISH = (
    "Dr. Harding reached the village of St. Anne at half past five, after a drive of 3.5 hours through the rain.",
    'The innkeeper shook her head and said: "No. Nobody has lived in that house since 1998. Ask anyone!"',
    "He paid $1,250.75 for the week, i.e. far more than he had planned, and carried both bags upstairs himself.",
    "Was it the wind that kept him awake, or the clock?",
    "At 6 a.m. the bells rang; Mr. and Mrs. Lowe, who ran the bakery, had been working for hours by then.",
    "“We open at seven. Come back later,” they told him, and he did so without complaint.",
    "By noon the sky had cleared completely!",
    "Nothing in the report (see p. 12 of the appendix) explained what the two engineers had found underneath.",
)
CHINESE = (
    "哈丁医生在下午五点半到达了村子，一路上雨下了整整3.5个小时。",
    "老板娘摇了摇头，说道：“不行。自从1998年以后，那座房子里就没有人住了。您可以问问别人！”",
    "他付了一千二百五十元，比原来打算的多得多，然后自己把两个箱子提上了楼。",
    "让他整夜睡不着的，到底是风声，还是那座老钟呢？",
    "早上六点，教堂的钟声响了；开面包店的夫妇那时已经忙了好几个小时。",
    "到了中午，天空完全放晴了！",
    "报告里（请看附录第12页）没有一句话说明两位工程师究竟在下面发现了什么。",
)
GERMAN = (
    "Dr. Harding erreichte das Dorf gegen 17.30 Uhr, nach einer Fahrt von 3,5 Stunden durch den Regen.",
    "Die Wirtin schüttelte den Kopf und sagte: „Nein. Seit 1998 wohnt dort niemand mehr. Fragen Sie, wen Sie wollen!“",
    "Er zahlte 1.250,75 € für die Woche, d. h. weit mehr als geplant, und trug beide Koffer selbst hinauf.",
    "War es der Wind, der ihn wach hielt, oder die Uhr?",
    "Am 3. Oktober läuteten die Glocken schon früh; die Bäcker arbeiteten da bereits seit Stunden.",
    "Gegen Mittag war der Himmel wieder vollkommen klar!",
    "Nichts im Bericht (siehe S. 12 im Anhang) erklärte, was z. B. die beiden Ingenieure dort gefunden hatten.",
)


def story(sentences: tuple[str, ...], joint: str) -> str:
    """About 3,000 characters, a paragraph after each round."""
    text, turn = "", itertools.cycle(sentences)
    while len(text) < 3_000:
        text += next(turn)
        text += "\n\n" if text.count("\n\n") * 900 < len(text) - 900 else joint
    return text.strip()


STORIES = {"english": story(ENGLISH, " "), "chinese": story(CHINESE, ""), "german": story(GERMAN, " ")}
SENTENCES = {"english": ENGLISH, "chinese": CHINESE, "german": GERMAN}


@pytest.mark.parametrize("language", STORIES)
def test_three_thousand_characters_are_spoken_whole_and_in_order_without_a_gap(
    load_engine: LoadEngine, language: str, figure: Figure
) -> None:
    engine, text = load_engine(LONG), STORIES[language]
    speak = Speak(text=text, language=language, seed=6, voice="ryan", trim_leading_silence=False)
    whole = TimedListener()
    engine.submit(speak, whole)
    segments = _segments(whole)
    parts = []
    for segment in segments:
        part = Listener()
        engine.submit(replace(speak, text=text[segment["text_start"] : segment["text_end"]]), part)
        assert part.outcome.error is None
        parts.append(part.codes)
    _check_places(text, language, segments)
    assert np.array_equal(whole.codes, np.concatenate(parts))
    seams = np.cumsum([len(part) for part in parts])
    assert [s["sample_offset"] for s in segments] == [0, *(int(n) * SAMPLES_PER_FRAME for n in seams[:-1])]
    gaps, usual = whole.gaps[seams[:-1] - 1], float(np.median(whole.gaps))
    work = whole.work[seams[:-1] - 1].max()
    figure(
        f"seams of a text of {len(text)} characters, {language}",
        f"{len(segments)} segments, {len(whole.frames)} frames; gaps at seams "
        f"{', '.join(f'{1000 * gap:.1f}' for gap in gaps)} ms, usual step {1000 * usual:.1f} ms, "
        f"most work at a seam {1000 * work:.1f} ms",
    )
    assert work < 0.08, "no longer than the sound of a frame"


def _segments(listener: Listener) -> list[dict[str, int]]:
    assert listener.outcome.error is None
    segments: Any = listener.outcome.info["segments"]
    assert len(segments) >= 6
    return list(segments)


def _check_places(text: str, language: str, segments: list[dict[str, int]]) -> None:
    """Together the whole text, and each cut where one of its sentences ends."""
    ends = {match.end() for sentence in SENTENCES[language] for match in re.finditer(re.escape(sentence), text)}
    assert {segment["text_end"] for segment in segments} <= ends
    left = text
    for segment in reversed(segments):
        left = left[: segment["text_start"]] + left[segment["text_end"] :]
    assert not left.strip()


def test_segments_that_end_by_themselves_are_complete_and_so_is_the_utterance(load_engine: LoadEngine) -> None:
    engine = load_engine(EngineConfig(slots=2, max_waiting=8, segment_tokens=20))
    parts = ("The first of them.", "Then another one.", "And so it ends now.")
    speak = Speak(text=" ".join(parts), language="english", seed=6, voice="ryan", trim_leading_silence=False)
    heard = [Listener() for _ in range(4)]
    for text, listener in zip((speak.text, *parts), heard, strict=True):
        engine.submit(replace(speak, text=text), listener)
        assert listener.outcome.reason == "complete"
    assert len(heard[0].outcome.info["segments"]) == 3  # type: ignore[arg-type]
    assert np.array_equal(heard[0].codes, np.concatenate([listener.codes for listener in heard[1:]]))


def test_a_long_text_can_be_cancelled_at_a_seam_and_its_slot_is_as_new(load_engine: LoadEngine) -> None:
    engine = load_engine(LONG)
    speak = Speak(text="Short one.", seed=2, voice="ryan", max_frames=10)
    before, after = Listener(), Listener()
    ids: list[int] = []
    engine.submit(speak, before)
    assert before.outcome
    story_listener = Listener(on_frame=lambda count: engine.cancel(ids[0]) if count == 9 else None)
    ids.append(engine.submit(Speak(text=STORIES["english"], voice="ryan", seed=1), story_listener))
    assert story_listener.outcome.reason == "cancelled"
    assert 9 <= len(story_listener.frames) <= 11
    engine.submit(speak, after)
    assert after.outcome.error is None
    assert np.array_equal(before.codes, after.codes)
