"""Text to token ids: the byte-level BPE of Qwen2, built from a checkpoint's vocab.json and merges.txt.

Users' text may not carry special tokens, which would be read as markup of the prompt. The prompt template itself
is not known here; it asks for special ids by number.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from .errors import CheckpointError, InvalidRequest

# How a text is cut before merging. `qwen2` is the tokenizer's own rule; `mistral` is what transformers 4.57.3 puts
# in its place for a local directory when asked to fix_mistral_regex, as qwen-tts 0.1.1 asks.
PRETOKENIZERS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "mistral": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
_CONTROL_TOKEN = re.compile(r"<\|[^|]*\|>")


_CHARACTERS_PER_TOKEN = 16


def refuse_huge(text: str, field: str, tokens: int) -> None:
    """Refuse a text of so many characters that it cannot have so few tokens: counting them would hold others up.

    Raises InvalidRequest.
    """
    limit = _CHARACTERS_PER_TOKEN * tokens
    if len(text) > limit:
        raise InvalidRequest(f"{field} has {len(text)} characters; the limit is {limit}")


class TextTokenizer:
    """Encodes what users say and what the prompt template says."""

    def __init__(self, folder: Path, pretokenizer: str) -> None:
        """Build it from a checkpoint folder.

        pretokenizer: a key of PRETOKENIZERS. Raises CheckpointError for missing or unreadable files.
        """
        added = _added_tokens(folder)
        self._special = frozenset(token.content for token in added.values())
        try:
            model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        except Exception as error:
            raise CheckpointError(f"cannot read vocab.json and merges.txt in {folder}: {error}") from error
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.NFC()
        self._splitter = pre_tokenizers.Split(Regex(PRETOKENIZERS[pretokenizer]), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [self._splitter, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([added[index] for index in sorted(added)])
        for index, token in added.items():
            if tokenizer.token_to_id(token.content) != index:
                raise CheckpointError(f"token {token.content!r} does not get its id {index} from this vocabulary")
        self._tokenizer = tokenizer

    def encode_user(self, text: str, field: str, limit: int) -> list[int]:
        """Ids of a user's text, stripped, at most `limit` of them.

        Raises InvalidRequest, naming `field`, when it is blank, too long, or contains a control token.
        """
        refuse_huge(text, field, limit)
        stripped = text.strip()
        if not stripped:
            raise InvalidRequest(f"{field} is empty")
        self.refuse_control_tokens(stripped, field)
        ids = self.encode(stripped)
        if len(ids) > limit:
            raise InvalidRequest(f"{field} has {len(ids)} tokens; the limit is {limit}")
        return ids

    def refuse_control_tokens(self, text: str, field: str) -> None:
        """Raises InvalidRequest, naming `field`, when a text contains a control token or half a character."""
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidRequest(f"{field} contains half of a surrogate pair, which is no character")
        found = _CONTROL_TOKEN.search(text)
        special = found.group() if found else next((t for t in self._special if t in text), None)
        if special is not None:
            raise InvalidRequest(f"{field} contains the control token {special!r}, which is not speech")

    def pieces(self, text: str) -> list[int]:
        """Where the pieces that are tokenised one by one begin in `text`, which must be in normal form C."""
        return [start for _, (start, _) in self._splitter.pre_tokenize_str(text)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text in which special tokens are what they say."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _added_tokens(folder: Path) -> dict[int, AddedToken]:
    path = folder / "tokenizer_config.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["added_tokens_decoder"]
        return {
            int(index): AddedToken(
                entry["content"],
                single_word=entry.get("single_word", False),
                lstrip=entry.get("lstrip", False),
                rstrip=entry.get("rstrip", False),
                normalized=entry.get("normalized", False),
                special=True,
            )
            for index, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {path}: {error!r}") from error
