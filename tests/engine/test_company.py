"""Seeds: 200 utterances of every kind, each alone and all in random company, say the same."""

import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.conftest import Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import Listener
from tests.engine.sounds import hum
from tts_engine import Engine, EngineConfig, Speak

IN_COMPANY = EngineConfig(slots=8, max_waiting=64, max_frames=60)
ALONE = EngineConfig(slots=1, max_waiting=4, max_frames=60)
TEXTS = ("Hi.", "Good morning!", "你好，世界。", "One, two, three.", "A", "Where are you now? " * 4, "Größe: 3,50 m")
SPEAKERS = ("makima", "ryan", "dylan", "eric", "serena", "sohee", None)
RECORDINGS = [hum(1.0 + 0.2 * seed, seed) for seed in range(4)]
PATIENCE_S = 60.0


def some_speak(draw: random.Random, number: int, *, clone: bool) -> Speak:
    """A request of any kind."""
    speak = Speak(
        text=draw.choice(TEXTS),
        language=draw.choice((None, "auto", "chinese", "en", "Japanese")),
        temperature=draw.choice((None, None, 0.6, 1.3)),
        top_k=draw.choice((None, None, 0, 20)),
        top_p=draw.choice((None, None, 0.8)),
        repetition_penalty=draw.choice((None, 1.0, 1.3)),
        predictor_temperature=draw.choice((None, None, 0.5)),
        seed=draw.choice((number, 2**63 + number, 2**64 - 1 - number)),
        max_frames=draw.randint(3, 16),
        text_placement=draw.choice((None, "prefill", "stream")),
        trim_leading_silence=draw.choice((None, False)),
    )
    if not clone:
        return replace(speak, voice=draw.choice(SPEAKERS))
    words = draw.choice((None, None, "And so it was.", "z" * 20))
    return replace(speak, reference_audio=draw.choice(RECORDINGS), reference_sample_rate=24_000, reference_text=words)


class Company:
    """Keeps a random number of utterances with one engine: as frames are made some end, and some come.

    One in ten is text that is written in two pieces, so that rows pause too. Everything but the start happens on the
    engine thread.
    """

    def __init__(self, engine: Engine, speaks: list[Speak], draw: random.Random) -> None:
        self._engine, self._draw = engine, draw
        self._coming = deque(enumerate(speaks))
        self.heard: dict[int, Listener] = {}
        self._present = 0
        self.most = 0
        self._done = threading.Event()
        self._lock = threading.RLock()

    def run(self) -> None:
        """Return when all have ended."""
        self._join()
        assert self._done.wait(PATIENCE_S)

    def _join(self) -> None:
        with self._lock:
            number, speak = self._coming.popleft()
            self._present += 1
            self.most = max(self.most, self._present)
            listener = Listener(on_frame=self._frame_made, on_end=self._ended)
            self.heard[number] = listener
            if number % 10 or len(speak.text) < 2 or speak.text_placement == "prefill":
                self._engine.submit(speak, listener)
                return
            name, middle = f"live-{number}", len(speak.text) // 2
            live = replace(speak, text=speak.text[:middle], utterance=name, text_complete=False)
            self._engine.submit(live, listener)
            self._engine.append(name, speak.text[middle:], complete=True)

    def _frame_made(self, count: int) -> None:
        if self._coming and self._present < 12 and self._draw.random() < 0.25:
            self._join()

    def _ended(self) -> None:
        with self._lock:
            self._present -= 1
            if self._coming and (not self._present or self._draw.random() < 0.8):
                self._join()
            elif not self._coming and not self._present:
                self._done.set()


def in_company(engine: Engine, speaks: list[Speak]) -> tuple[list[Listener], int]:
    company = Company(engine, speaks, random.Random(5))
    company.run()
    return [company.heard[number] for number in range(len(speaks))], company.most


def alone(engine: Engine, speaks: list[Speak]) -> Iterator[Listener]:
    for number, speak in enumerate(speaks):
        listener = Listener()
        live = number % 10 == 0 and len(speak.text) > 1 and speak.text_placement != "prefill"
        engine.submit(replace(speak, text_placement="stream") if live else speak, listener)
        assert listener.outcome.error is None
        yield listener


def test_two_hundred_utterances_in_random_company_say_what_each_says_alone(
    load_engine: LoadEngine, figure: Figure
) -> None:
    draw, began, same, frames, most = random.Random(11), time.monotonic(), 0, 0, []
    for model_type, count in (("custom_voice", 110), ("base", 90)):
        speaks = [some_speak(draw, number, clone=model_type == "base") for number in range(count)]
        company, crowd = in_company(load_engine(IN_COMPANY, model_type=model_type, dtype="float64"), speaks)
        most.append(crowd)
        lonely = alone(load_engine(ALONE, model_type=model_type, dtype="float64"), speaks)
        for one, other in zip(company, lonely, strict=True):
            assert np.array_equal(one.codes, other.codes)
            assert one.outcome.reason == other.outcome.reason
            assert np.allclose(np.concatenate(one.pcm), np.concatenate(other.pcm), rtol=0, atol=1)
            same, frames = same + 1, frames + len(one.frames)
    figure(
        "seeds: random company == alone, float64",
        f"{same} of 200 utterances, {frames} frames, up to {max(most)} at once, {time.monotonic() - began:.1f} s",
    )
    assert same == 200
    assert min(most) >= 8
