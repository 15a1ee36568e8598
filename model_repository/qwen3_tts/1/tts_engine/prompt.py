"""The prompt template: what the talker reads before its first frame, and what it is fed while it speaks.

A prompt is two tracks of ids, text and codec, one pair per position; a position's input is the sum of the
embeddings of its two ids. This is the only file that knows the template (qwen-tts 0.1.1), and it knows no tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import InvalidRequest
from .model_config import ModelConfig
from .text import TextTokenizer
from .voices import Voice

Placement = Literal["prefill", "stream"]

NOTHING = -1
"""An id that stands for no embedding at all."""

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

    text_ids, codec_ids: one each per prompt position, NOTHING where a track is silent.
    trailing_ids: text fed with frame 0, 1, …, one each; after the last, the padding token for ever.
    text_tokens: how many tokens the spoken text has.
    """

    text_ids: tuple[int, ...]
    codec_ids: tuple[int, ...]
    trailing_ids: tuple[int, ...]
    text_tokens: int


class PromptBuilder:
    """Makes prompts for one checkpoint."""

    def __init__(
        self, config: ModelConfig, tokenizer: TextTokenizer, *, max_text_tokens: int, max_instruct_tokens: int
    ) -> None:
        self._config, self._tokenizer = config, tokenizer
        self._max_text_tokens, self._max_instruct_tokens = max_text_tokens, max_instruct_tokens
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
            raise InvalidRequest(f"language {(name or wanted)[:80]!r} is not one of {', '.join(self.languages)}")
        return wanted

    @property
    def serves_instruct(self) -> bool:
        """Whether this checkpoint was trained to follow a style description; 0.6B ones drop it, as upstream does."""
        return self._config.size != "0b6"

    def build(self, text: str, voice: Voice, *, language: str, instruct: str | None, placement: Placement) -> Prompt:
        """The prompt for speaking `text`.

        language: as `language()` returned it. Raises InvalidRequest for an empty or too long text or instruct.
        """
        body = self._limited(self._tokenizer.encode_user(text, "text"), self._max_text_tokens, "text")
        ids, positions = self._config.ids, self._opening(voice, language, instruct)
        if placement == "prefill":
            positions += [(token, ids.codec_pad) for token in (*body, ids.tts_eos)]
            positions.append((ids.tts_pad, ids.codec_bos))
            trailing: tuple[int, ...] = ()
        else:
            positions.append((body[0], ids.codec_bos))
            trailing = (*body[1:], ids.tts_eos)
        text_track, codec_track = zip(*positions, strict=True)
        return Prompt(text_track, codec_track, trailing, len(body))

    def _opening(self, voice: Voice, language: str, instruct: str | None) -> list[tuple[int, int]]:
        """What precedes the text: it depends on voice, language and instruct alone."""
        ids = self._config.ids
        opening: list[tuple[int, int]] = []
        if instruct and self.serves_instruct:
            opening += [(token, NOTHING) for token in self._instruct_ids(instruct)]
        opening += [(token, NOTHING) for token in self._role_ids]
        codec = self._language_ids(language, voice)
        codec += [voice.speaker_id] if voice.speaker_id is not None else []
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
        words = self._tokenizer.encode_user(instruct, "instruct")
        self._limited(words, self._max_instruct_tokens, "instruct")
        return self._tokenizer.encode(f"<|im_start|>user\n{instruct.strip()}<|im_end|>\n")

    @staticmethod
    def _limited(tokens: list[int], limit: int, field: str) -> list[int]:
        if len(tokens) > limit:
            raise InvalidRequest(f"{field} has {len(tokens)} tokens; the limit is {limit}")
        return tokens
