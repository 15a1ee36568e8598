"""From a request to an utterance the engine can run: every check, the voice, the text. Runs on the caller's thread.

After this nothing about a request can be wrong any more. Knows neither devices nor queues.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque

from .checkpoint import Checkpoint
from .config import EngineConfig
from .errors import InvalidRequest, UnknownVoice
from .live_text import LiveText
from .prompt import Placement, PromptBuilder
from .request import Script, Sink, Speak, Utterance
from .segmentation import Segmenter
from .text import TextTokenizer
from .voice_library import VoiceLibrary
from .voices import Voice, VoiceBook

log = logging.getLogger(__name__)


class Preparation:
    """Checks requests against one checkpoint and one configuration."""

    def __init__(self, checkpoint: Checkpoint, config: EngineConfig, voices: VoiceBook) -> None:
        self._checkpoint, self._config, self._voices = checkpoint, config, voices
        self._ids = itertools.count(1)
        self._tokenizer = TextTokenizer(checkpoint.folder, config.pretokenizer)
        self._segmenter = Segmenter(self._tokenizer, config.segment_tokens)
        self.prompts = PromptBuilder(
            checkpoint.model,
            self._tokenizer,
            max_instruct_tokens=config.max_instruct_tokens,
            max_reference_text_tokens=config.max_reference_text_tokens,
        )

    def prepare(self, speak: Speak, sink: Sink) -> tuple[Utterance, Voice]:
        """Check everything about a request, but for live text, of which nothing is taken yet.

        Raises InvalidRequest, Unsupported or UnknownVoice.
        """
        if speak.is_live and speak.utterance is None:
            raise InvalidRequest("text_complete is false, but no utterance is named for the text that follows")
        sampling = speak.sampling(self._checkpoint.sampling)
        voice = self._voice(speak)
        language = self.prompts.language(speak.language, voice)
        instruct = voice.instruct if speak.instruct is None else speak.instruct
        placement = self._placement(speak)
        template = self.prompts.template(voice, language=language, instruct=instruct, placement=placement)
        script = Script(live=[], complete=False) if speak.is_live else self._script(speak.text, language)
        ignored = ["instruct"] if speak.instruct and not self.prompts.serves_instruct else []
        utterance = Utterance(
            id=next(self._ids),
            template=template,
            script=script,
            sampling=sampling,
            sink=sink,
            tokens=sum(len(segment.ids) for segment in script.segments),
            max_frames=self._frame_cap(speak.max_frames),
            trim_leading_silence=speak.trim_leading_silence is not False,
            description={"seed": sampling.seed, "voice": voice.id, "language": language, "ignored": ignored},
        )
        return utterance, voice

    def check_voices(self, library: VoiceLibrary) -> None:
        """Read every voice there is, to complain at once of what could not be used. Raises VoiceError.

        What only this checkpoint or these limits cannot take, such as its language, is logged: others may.
        """
        for name in library.check():
            try:
                voice = self._voices.resolve(name)
                language = self.prompts.language(None, voice)
                placement = self.prompts.default_placement
                self.prompts.template(voice, language=language, instruct=voice.instruct, placement=placement)
            except UnknownVoice:
                continue  # it has no recipe for this type of checkpoint
            except InvalidRequest as error:
                log.warning("voice %s: %s", name, error)

    def live_text(self) -> LiveText:
        """A tokenizer for one text that is being written.

        It is spoken in one generation, a token a frame, so it may not be longer than a generation.
        """
        return LiveText(self._tokenizer, min(self._config.max_text_tokens, self._config.max_frames))

    def _voice(self, speak: Speak) -> Voice:
        if speak.reference_audio is None:
            for name in ("reference_sample_rate", "reference_text"):
                if getattr(speak, name) is not None:
                    raise InvalidRequest(f"{name} was given without reference_audio")
            return self._voices.resolve(speak.voice)
        if speak.voice is not None:
            raise InvalidRequest("a request takes voice or reference_audio, not both")
        if speak.reference_sample_rate is None:
            raise InvalidRequest("reference_audio needs reference_sample_rate")
        return self._voices.cloned(speak.reference_audio, speak.reference_sample_rate, speak.reference_text)

    def _placement(self, speak: Speak) -> Placement:
        choices: dict[str, Placement] = {"prefill": "prefill", "stream": "stream"}
        if speak.text_placement is None:
            return "stream" if speak.is_live else self.prompts.default_placement
        if speak.text_placement not in choices:
            raise InvalidRequest(f"text_placement must be 'prefill' or 'stream', got {speak.text_placement[:80]!r}")
        if speak.is_live and speak.text_placement == "prefill":
            raise InvalidRequest("text_placement must be 'stream' for live text, got 'prefill'")
        return choices[speak.text_placement]

    def _script(self, text: str, language: str) -> Script:
        self._tokenizer.encode_user(text, "text", self._config.max_text_tokens)
        return Script(segments=deque(self._segmenter.cut(text, language)))

    def _frame_cap(self, asked: int | None) -> int:
        limit = self._config.max_total_frames
        if asked is not None and not 1 <= asked <= limit:
            raise InvalidRequest(f"max_frames must be from 1 to {limit}, got {asked}")
        return limit if asked is None else asked
