"""The cases both sides speak: a table of checkpoints and calls. Runs nothing.

A call is one batch of the official package; its rows are spoken one by one by our engine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

# The official package returns one frame less than this.
MAX_NEW_TOKENS = 44

# Short ones reach the end of speech, long ones the limit; the tokenizer cuts nearly every byte apart.
TEXTS = (
    "Hello world, this is a test.",
    "a",
    "你好，世界。今天天气很好！",
    "3 + 4 = 7, and 1,024.50 is more.",
    "Emoji 🙂🎉 between words",
    "Ça va? L'été, naïve façade",
    "Привет, мир!",
    "こんにちは、元気ですか",
    "안녕하세요 세계",
    "The cat's isn't, we'll; DON'T",
    "two\nlines\n\nand more",
    "e\u0301 is not precomposed",
    "tabs\tand   spaces",
    "iPhone HelloWorld oMini",
    "«Größe» – 100 % §5",
    "ok.",
)
LANGUAGES = (
    "English",
    "Chinese",
    "Auto",
    "German",
    "italian",
    "Portuguese",
    "SPANISH",
    "Japanese",
    "Korean",
    "French",
    "Russian",
)
SPEAKERS = ("vivian", "Ryan", "serena", "uncle_fu", "AIDEN", "ono_anna", "sohee")
INSTRUCTS = ("Very happy.", "", "用低沉的声音。", "Whisper, slowly.")
DESIGNS = ("A calm old man.", "A bright young voice", "", "一个温柔的女声")
# Fewer tokens than the recording has frames, about as many, and more.
TRANSCRIPTS = (
    "and the user",
    "你好，世界。",
    "A sentence of some length, which was spoken rather fast.",
    "Größe",
    "So viel Text passt kaum in eine so kurze Aufnahme, und doch steht er da: Wort für Wort, bis zum Ende.",
)
RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)


@dataclass(frozen=True)
class DemoModel:
    """The arguments of one demo checkpoint. `speakers` is a fine-tuned table: name and id pairs."""

    model_type: str
    size: str
    seed: int
    speakers: tuple[tuple[str, int], ...] | None = None

    @property
    def name(self) -> str:
        """A folder name."""
        tuned = "-tuned" if self.speakers else ""
        return f"{self.model_type}-{self.size}-seed{self.seed}{tuned}"


@dataclass(frozen=True)
class Recording:
    """A sound file to clone."""

    rate: int
    channels: int
    seconds: float

    @property
    def file(self) -> str:
        """A file name."""
        return f"{self.rate}-{self.channels}-{self.seconds:g}.wav"


@dataclass(frozen=True)
class Row:
    """One utterance, spoken greedily. A recording is cloned in context when it has a transcript."""

    id: str
    model: DemoModel
    text: str
    language: str
    speaker: str | None
    instruct: str
    text_placement: str
    recording: Recording | None = None
    transcript: str | None = None

    @property
    def in_context(self) -> bool:
        """Whether the frames of the recording are part of the prompt."""
        return self.transcript is not None


@dataclass(frozen=True)
class Call:
    """Rows of one model and one text placement that the official package generates in one batch."""

    model: DemoModel
    text_placement: str
    rows: tuple[Row, ...]


class _Wheel:
    """Hands out texts, languages, voices and styles in turn, so that all of them come up in all combinations."""

    def __init__(self) -> None:
        self._texts, self._languages, self._speakers = cycle(TEXTS), cycle(LANGUAGES), cycle(SPEAKERS)
        self._instructs, self._designs = cycle(INSTRUCTS), cycle(DESIGNS)
        self._transcripts = cycle(TRANSCRIPTS)
        # One each, so that both ways of cloning see them all.
        self._recordings = {False: cycle(RECORDINGS), True: cycle(RECORDINGS)}

    def call(self, name: str, model: DemoModel, placement: str, voices: list[tuple[str | None, str | None]]) -> Call:
        """A call with a row for each (speaker, language); a language of None is the next in turn."""
        rows = tuple(
            Row(
                id=f"{model.name}-{name}-{index}",
                model=model,
                text=next(self._texts),
                language=language or next(self._languages),
                speaker=speaker,
                instruct=next(self._designs if model.model_type == "voice_design" else self._instructs),
                text_placement=placement,
            )
            for index, (speaker, language) in enumerate(voices)
        )
        return Call(model, placement, rows)

    def clones(self, name: str, model: DemoModel, placement: str, *, in_context: bool, count: int) -> Call:
        """A call that clones the next recordings."""
        rows = tuple(
            Row(
                id=f"{model.name}-{name}-{placement}-{index}",
                model=model,
                text=next(self._texts),
                language=next(self._languages),
                speaker=None,
                instruct="",
                text_placement=placement,
                recording=next(self._recordings[in_context]),
                transcript=next(self._transcripts) if in_context else None,
            )
            for index in range(count)
        )
        return Call(model, placement, rows)

    def speakers(self, count: int) -> list[tuple[str | None, str | None]]:
        """The next speakers, each with the language whose turn it is."""
        return [(speaker, None) for speaker in islice(self._speakers, count)]


def _clones(wheel: _Wheel) -> Iterator[Call]:
    for seed in (0, 1):
        for size in ("0b6", "1b7"):
            model = DemoModel("base", size, seed)
            for placement in ("prefill", "stream"):
                for name, in_context in (("vector", False), ("in-context", True)):
                    yield wheel.clones(f"{name}-ragged", model, placement, in_context=in_context, count=3)
                    yield wheel.clones(f"{name}-alone", model, placement, in_context=in_context, count=1)
            yield _even(model, seed)


def _even(model: DemoModel, seed: int) -> Call:
    """Transcripts that leave the text track just shorter than, as long as, and just longer than the frames."""
    recording = Recording(RATES[seed], 1, 1.0)
    rows = tuple(
        Row(
            id=f"{model.name}-even-{letters}",
            model=model,
            text="a",
            language="auto",
            speaker=None,
            instruct="",
            text_placement="stream",
            recording=recording,
            transcript="z" * letters,
        )
        for letters in range(11, 15)
    )
    return Call(model, "stream", rows)


def _calls() -> Iterator[Call]:
    wheel = _Wheel()
    yield from _clones(wheel)
    dialects: list[tuple[str | None, str | None]] = [("eric", "Chinese"), ("dylan", "auto"), ("Eric", "English")]
    nobody: list[tuple[str | None, str | None]] = [(None, None)] * 3
    for seed in (0, 1, 2):
        for size in ("0b6", "1b7"):
            model = DemoModel("custom_voice", size, seed)
            yield wheel.call("ragged-prefill", model, "prefill", wheel.speakers(3))
            yield wheel.call("ragged-stream", model, "stream", wheel.speakers(3))
            yield wheel.call("dialects", model, ("prefill", "stream")[seed % 2], dialects)
            yield wheel.call("alone-prefill", model, "prefill", wheel.speakers(1))
            yield wheel.call("alone-stream", model, "stream", wheel.speakers(1))
        model = DemoModel("voice_design", "1b7", seed)
        yield wheel.call("ragged-prefill", model, "prefill", nobody)
        yield wheel.call("ragged-stream", model, "stream", nobody)
        yield wheel.call("alone-prefill", model, "prefill", nobody[:1])
    tuned = DemoModel("custom_voice", "0b6", 7, speakers=(("narrator", 3000),))
    yield wheel.call(
        "ragged-prefill", tuned, "prefill", [("narrator", "chinese"), ("Narrator", None), ("narrator", "auto")]
    )


RECORDINGS = tuple(
    Recording(rate, channels, 1.0 + 0.23 * index)
    for index, (channels, rate) in enumerate((channels, rate) for channels in (1, 2) for rate in RATES)
)
CALLS = tuple(_calls())
ROWS = tuple(row for call in CALLS for row in call.rows)
MODELS = tuple(dict.fromkeys(call.model for call in CALLS))
