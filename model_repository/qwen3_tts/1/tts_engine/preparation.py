"""From a request to an utterance the engine can run: every check, the voice, the prompt. Runs on the caller's thread.

After this nothing about a request can be wrong any more. Knows neither devices nor queues.
"""

from __future__ import annotations

import itertools

from .checkpoint import Checkpoint
from .config import EngineConfig
from .errors import InvalidRequest
from .prompt import Placement, PromptBuilder
from .request import Sink, Speak, Utterance
from .text import TextTokenizer
from .voices import VoiceBook

# A generation that has not ended by then never will: guards against a checkpoint that misses its own end.
_RUNAWAY_FLOOR = 192
_RUNAWAY_FRAMES_PER_TOKEN = 12


class Preparation:
    """Checks requests against one checkpoint and one configuration."""

    def __init__(self, checkpoint: Checkpoint, config: EngineConfig, voices: VoiceBook) -> None:
        self._checkpoint, self._config, self._voices = checkpoint, config, voices
        self._ids = itertools.count(1)
        self._prompts = PromptBuilder(
            checkpoint.model,
            TextTokenizer(checkpoint.folder, config.pretokenizer),
            max_text_tokens=config.max_text_tokens,
            max_instruct_tokens=config.max_instruct_tokens,
        )

    @property
    def languages(self) -> list[str]:
        """Names a request may use."""
        return self._prompts.languages

    def prepare(self, speak: Speak, sink: Sink) -> Utterance:
        """Check everything about a request and make its prompt.

        Raises InvalidRequest, Unsupported or UnknownVoice.
        """
        speak.refuse_unserved()
        sampling = speak.sampling(self._checkpoint.sampling)
        voice = self._voices.resolve(speak.voice)
        language = self._prompts.language(speak.language, voice)
        instruct = voice.instruct if speak.instruct is None else speak.instruct
        prompt = self._prompts.build(
            speak.text,
            voice,
            language=language,
            instruct=instruct,
            placement=_placement(speak.text_placement),
        )
        runaway = max(_RUNAWAY_FLOOR, _RUNAWAY_FRAMES_PER_TOKEN * prompt.text_tokens)
        ignored = ["instruct"] if instruct and not self._prompts.serves_instruct else []
        return Utterance(
            id=next(self._ids),
            prompt=prompt,
            sampling=sampling,
            sink=sink,
            max_frames=min(self._frame_cap(speak.max_frames), runaway),
            description={"seed": sampling.seed, "voice": voice.id, "language": language, "ignored": ignored},
        )

    def _frame_cap(self, asked: int | None) -> int:
        limit = self._config.max_frames
        if asked is not None and not 1 <= asked <= limit:
            raise InvalidRequest(f"max_frames must be from 1 to {limit}, got {asked}")
        return limit if asked is None else asked


def _placement(name: str | None) -> Placement:
    """`prefill` is upstream's default for speakers and designed voices."""
    choices: dict[str | None, Placement] = {None: "prefill", "prefill": "prefill", "stream": "stream"}
    if name not in choices:
        raise InvalidRequest(f"text_placement must be 'prefill' or 'stream', got {str(name)[:80]!r}")
    return choices[name]
