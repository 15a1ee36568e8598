"""The prompt template: what the talker reads before its first frame, and what it is fed while it speaks.

A prompt is two tracks of ids, text and codec, one pair per position; a position's input is the sum of the
embeddings of its two ids. A cloned voice puts its vector, and the frames of its recording, into the codec track.
This is the only file that knows the template (qwen-tts 0.1.1), and it knows no tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import InvalidRequest
from .model_config import ModelConfig
from .text import TextTokenizer
from .voices import Voice

Placement = Literal["prefill", "stream"]

NOTHING = -1
"""An id that stands for no embedding at all."""

VOICE = -2
"""A codec id that stands for the vector of the voice being cloned."""

REFERENCE = -3
"""A codec id that stands for a frame of the recording being cloned; the first is frame 0, and so on."""

_ISO_LANGUAGES = {
    "zh": "chinese",
    "en": "english",
    "de": "german",
    "it": "italian",
    "pt": "portuguese",
    "es": "spanish",
    "ja": "japanese",
    "ko": "korean",
    "fr": "french",
    "ru": "russian",
}
_DIALECT = "_dialect"
_DIALECT_BASES = ("chinese", "auto")


@dataclass(frozen=True)
class Prompt:
    """Ids the talker is fed.

    text_ids, codec_ids: one each per prompt position; see NOTHING, VOICE and REFERENCE.
    prefix: how many leading positions do not depend on the text that is spoken.
    trailing_ids: text fed with frame 0, 1, …, one each. complete: whether the text ends there; after the end
    the padding token follows for ever, before it the talker must wait for more.
    """

    text_ids: tuple[int, ...]
    codec_ids: tuple[int, ...]
    prefix: int
    trailing_ids: tuple[int, ...]
    complete: bool = True


@dataclass(frozen=True)
class Template:
    """Everything about an utterance's prompts but the text: the positions before it, and how it will be laid.

    opening: text-independent positions. reference_text: ids of the transcript, and frames: how many frames the
    recording has, when the voice is cloned in context.
    """

    opening: tuple[tuple[int, int], ...]
    placement: Placement
    reference_text: tuple[int, ...] = ()
    frames: int = 0

    @property
    def tokens_needed(self) -> int:
        """How many tokens of the text the prompt itself holds, if they are to enter as a stream."""
        return max(1, self.frames + 1 - len(self.reference_text)) if self.frames else 1


class PromptBuilder:
    """Makes prompts for one checkpoint."""

    def __init__(
        self, config: ModelConfig, tokenizer: TextTokenizer, *, max_instruct_tokens: int, max_reference_text_tokens: int
    ) -> None:
        self._config, self._tokenizer = config, tokenizer
        self._max_instruct_tokens, self._max_reference_text_tokens = max_instruct_tokens, max_reference_text_tokens
        self._role_ids = tokenizer.encode("<|im_start|>assistant\n")

    @property
    def languages(self) -> list[str]:
        """Names a request may use; dialects are reached through their speakers alone."""
        return ["auto", *(name for name in self._config.languages if not name.endswith(_DIALECT))]

    def language(self, name: str | None, voice: Voice) -> str:
        """The full name of a language given by name or ISO code; None is the voice's own, or auto.

        Raises InvalidRequest listing what the checkpoint has.
        """
        wanted = (name or voice.language or "auto").strip().lower()
        wanted = _ISO_LANGUAGES.get(wanted.split("-")[0], wanted)
        if wanted not in self.languages:
            whose = "language" if name else f"language of voice {voice.id!r},"
            raise InvalidRequest(f"{whose} {(name or wanted)[:80]!r} is not one of {', '.join(self.languages)}")
        return wanted

    @property
    def serves_instruct(self) -> bool:
        """Whether this checkpoint was trained to follow a style description; the others drop it, as upstream does."""
        return self._config.type != "base" and self._config.size != "0b6"

    @property
    def default_placement(self) -> Placement:
        """Upstream's default for this type of checkpoint."""
        return "stream" if self._config.type == "base" else "prefill"

    def template(self, voice: Voice, *, language: str, instruct: str | None, placement: Placement) -> Template:
        """The prompt but for its text.

        language: as `language()` returned it. Raises InvalidRequest for an empty or too long instruct or transcript.
        """
        opening = tuple(self._opening(voice, language, instruct))
        reference = voice.reference
        if reference is None or reference.text is None:
            return Template(opening, placement)
        words = self._tokenizer.encode_user(reference.text, "reference_text", self._max_reference_text_tokens)
        return Template(opening, placement, tuple(words), reference.frames)

    def fill(self, template: Template, body: Sequence[int], *, complete: bool = True) -> Prompt:
        """The prompt for speaking the tokens `body`, of which there are at least `template.tokens_needed`, or all."""
        if template.frames:
            return self._fill_in_context(template, body, complete)
        ids, opening = self._config.ids, template.opening
        if template.placement == "prefill":
            positions = [(token, ids.codec_pad) for token in (*body, ids.tts_eos)]
            return _prompt(opening, (*positions, (ids.tts_pad, ids.codec_bos)), len(opening), (), complete=True)
        end = (ids.tts_eos,) if complete else ()
        return _prompt(opening, ((body[0], ids.codec_bos),), len(opening), (*body[1:], *end), complete=complete)

    def end_of_text(self) -> tuple[int, ...]:
        """What follows a live text when it is complete."""
        return (self._config.ids.tts_eos,)

    def _fill_in_context(self, template: Template, body: Sequence[int], complete: bool) -> Prompt:
        """The transcript and the text as one text track, the recording as the codec track of a beginning."""
        ids, opening, spoken = self._config.ids, template.opening, len(template.reference_text)
        text = [*template.reference_text, *body, *((ids.tts_eos,) if complete else ())]
        codec = [ids.codec_bos, *[REFERENCE] * template.frames]
        if template.placement == "prefill":
            positions = [(token, ids.codec_pad) for token in text] + [(ids.tts_pad, code) for code in codec]
            return _prompt(opening, positions, len(opening) + spoken, (), complete=True)
        shared = min(spoken, len(codec) - 1)  # at least one position must be left to read for each utterance
        trailing = tuple(text[len(codec) :])
        text += [ids.tts_pad] * (len(codec) - len(text))
        positions = list(zip(text, codec, strict=False))
        return _prompt(opening, positions, len(opening) + shared, trailing, complete=complete)

    def _opening(self, voice: Voice, language: str, instruct: str | None) -> list[tuple[int, int]]:
        """What precedes the text: it depends on voice, language and instruct alone."""
        ids = self._config.ids
        opening: list[tuple[int, int]] = []
        if instruct and self.serves_instruct:
            opening += [(token, NOTHING) for token in self._instruct_ids(instruct)]
        opening += [(token, NOTHING) for token in self._role_ids]
        codec = self._language_ids(language, voice)
        if voice.reference is not None:
            codec.append(VOICE)
        elif voice.speaker_id is not None:
            codec.append(voice.speaker_id)
        codec.append(ids.codec_pad)
        text = [ids.tts_pad] * (len(codec) - 1) + [ids.tts_bos]
        return opening + list(zip(text, codec, strict=True))

    def _language_ids(self, language: str, voice: Voice) -> list[int]:
        ids = self._config.ids
        if voice.dialect is not None and language in _DIALECT_BASES:
            language = voice.dialect
        if language == "auto":
            return [ids.nothink, ids.think_bos, ids.think_eos]
        return [ids.think, ids.think_bos, self._config.languages[language], ids.think_eos]

    def _instruct_ids(self, instruct: str) -> list[int]:
        """The description as a user's turn, tokenised with its markup."""
        self._tokenizer.encode_user(instruct, "instruct", self._max_instruct_tokens)
        return self._tokenizer.encode(f"<|im_start|>user\n{instruct.strip()}<|im_end|>\n")


def _prompt(
    opening: Sequence[tuple[int, int]],
    positions: Sequence[tuple[int, int]],
    prefix: int,
    trailing: tuple[int, ...],
    *,
    complete: bool,
) -> Prompt:
    text, codec = zip(*opening, *positions, strict=True)
    return Prompt(text, codec, prefix, trailing, complete)
