"""A prompt builder for one checkpoint, beside the numbers of that checkpoint's own files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tts_engine import EngineConfig
from tts_engine.checkpoint import Checkpoint
from tts_engine.manifests import Reference
from tts_engine.prompt import Placement, Prompt, PromptBuilder
from tts_engine.text import TextTokenizer
from tts_engine.voices import Voice

CONFIG = EngineConfig(max_text_tokens=24, segment_tokens=24, max_instruct_tokens=12, max_reference_text_tokens=20)
FRAME = 1_920


class Kit:
    """A builder for one checkpoint, and its numbers read anew from its files."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = Checkpoint.read(folder)
        self.tokenizer = TextTokenizer(folder, "qwen2")
        self.builder = PromptBuilder(
            self.checkpoint.model,
            self.tokenizer,
            max_instruct_tokens=CONFIG.max_instruct_tokens,
            max_reference_text_tokens=CONFIG.max_reference_text_tokens,
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

    def clone(self, frames: int, text: str | None) -> Voice:
        """A voice to be cloned whose recording has so many frames."""
        return Voice(id="clone", reference=Reference(np.zeros(FRAME * frames, dtype=np.float32), text, "key"))

    def spell(self, text: str) -> tuple[int, ...]:
        return tuple(self.letters[letter] for letter in text)


def build(
    kit: Kit,
    voice: Voice,
    language: str,
    placement: Placement,
    instruct: str | None = None,
    text: str = "Hey",
    complete: bool = True,
) -> Prompt:
    template = kit.builder.template(voice, language=language, instruct=instruct, placement=placement)
    return kit.builder.fill(template, kit.spell(text), complete=complete)
