"""A byte-level BPE text tokenizer in the Qwen2 file format, with a handful of merges.

Keeps what the prompt template relies on: role names are single tokens and the special tokens sit in the released
order behind the vocabulary. It knows nothing about the networks; real text gets far more tokens than a trained
tokenizer would give.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In the released order; the first has the id of the vocabulary's end.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|{shape}_{side}|>" for shape in ("object_ref", "box", "quad", "vision") for side in ("start", "end")),
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    *(f"<|fim_{part}|>" for part in ("prefix", "middle", "suffix", "pad")),
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
)
RELEASED_VOCABULARY = 151_643
RELEASED_EMBEDDINGS = 151_936
RELEASED_ASSISTANT = 77_091

# The role names come first: their merges then outrank all others, which keeps them whole.
WORDS = ("assistant", "user", " the", " of", " and", " to", "ing", "tion", "你好", "世界")


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary (token to id, without the special tokens), its merges, and the rows of the text embedding."""

    vocabulary: dict[str, int]
    merges: tuple[tuple[str, str], ...]
    embeddings: int

    @property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token."""
        return {token: len(self.vocabulary) + index for index, token in enumerate(SPECIAL_TOKENS)}

    @property
    def named_ids(self) -> dict[str, int]:
        """The ids a checkpoint's config names, and "vocabulary": the rows of the text embedding."""
        return self.special_ids | {
            "assistant": self.vocabulary["assistant"],
            "vocabulary": self.embeddings,
        }


def _byte_characters() -> dict[int, str]:
    """The printable stand-in of each byte, as byte-level BPE files write it.

    Printable Latin-1 stands for itself; the other bytes take the characters from 256 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _merges(characters: dict[int, str]) -> Iterator[tuple[str, str]]:
    """For each word, the merges that grow it from its first byte to the whole."""
    seen: set[tuple[str, str]] = set()
    for word in WORDS:
        pieces = [characters[byte] for byte in word.encode()]
        for end in range(1, len(pieces)):
            pair = ("".join(pieces[:end]), pieces[end])
            if pair not in seen:
                seen.add(pair)
                yield pair


def demo_tokenizer(full_size: bool) -> Tokenizer:
    """The demo's tokenizer; `full_size` fills the vocabulary up to the released ids with unreachable tokens."""
    characters = _byte_characters()
    merges = tuple(_merges(characters))
    tokens = [*characters.values(), *dict.fromkeys(left + right for left, right in merges)]
    if not full_size:
        embeddings = len(tokens) + len(SPECIAL_TOKENS)
        return Tokenizer({token: index for index, token in enumerate(tokens)}, merges, -(-embeddings // 16) * 16)
    tokens.remove("assistant")
    tokens += [f"<unused{index}>" for index in range(len(tokens), RELEASED_VOCABULARY - 1)]
    tokens.insert(RELEASED_ASSISTANT, "assistant")
    return Tokenizer({token: index for index, token in enumerate(tokens)}, merges, RELEASED_EMBEDDINGS)


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token_id): {"content": token} | flags for token, token_id in tokenizer.special_ids.items()
        },
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131_072,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3TTSProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def write_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Writes vocab.json, merges.txt, tokenizer_config.json and preprocessor_config.json into `out`."""
    (out / "vocab.json").write_text(json.dumps(tokenizer.vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in tokenizer.merges)]
    (out / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = json.dumps(_tokenizer_config(tokenizer), indent=2)
    (out / "tokenizer_config.json").write_text(config, encoding="utf-8")
    processor = json.dumps({"processor_class": "Qwen3TTSProcessor"})
    (out / "preprocessor_config.json").write_text(processor, encoding="utf-8")
