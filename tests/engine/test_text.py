"""The text tokenizer: what users may say, how it is cut, and files that cannot be read."""

import json
import unicodedata
from pathlib import Path

import pytest

from commands.demo_tokenizer import Tokenizer, demo_tokenizer, write_tokenizer
from tts_engine import CheckpointError, InvalidRequest
from tts_engine.checkpoint import Checkpoint
from tts_engine.text import TextTokenizer


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Checkpoint) -> TextTokenizer:
    return TextTokenizer(checkpoint.folder, "qwen2")


@pytest.fixture
def merging(tmp_path: Path) -> Path:
    """A vocabulary in which the end of one word and the beginning of the next make one token: "oW"."""
    demo = demo_tokenizer(False)
    vocabulary = {**demo.vocabulary, "oW": len(demo.vocabulary)}
    write_tokenizer(Tokenizer(vocabulary, (*demo.merges, ("o", "W")), demo.embeddings), tmp_path)
    return tmp_path


def pieces(folder: Path, ids: list[int]) -> list[str]:
    names = {index: token for token, index in json.loads((folder / "vocab.json").read_text()).items()}
    return [names[index] for index in ids]


def test_the_two_pretokenizers_cut_words_in_camel_case_differently(merging: Path) -> None:
    plain, patched = (
        TextTokenizer(merging, kind).encode_user("HelloWorld", "text", 99) for kind in ("qwen2", "mistral")
    )
    assert pieces(merging, plain) == ["H", "e", "l", "l", "oW", "o", "r", "l", "d"]
    assert pieces(merging, patched) == [*"HelloWorld"]


@pytest.mark.parametrize("text", ["Hello world", "it's 42!", "你好，世界", "naïve\n\nlines", "  "])
def test_however_a_text_is_cut_every_character_comes_back(merging: Path, text: str) -> None:
    for kind in ("qwen2", "mistral"):
        tokenizer = TextTokenizer(merging, kind)
        assert tokenizer._tokenizer.decode(tokenizer.encode(text)) == text


def test_text_is_stripped(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode_user(" \n\tHi \u2003\n", "text", 99) == tokenizer.encode_user("Hi", "text", 99)


def test_text_is_composed(tokenizer: TextTokenizer) -> None:
    decomposed = unicodedata.normalize("NFD", "é ü 각")
    assert decomposed != "é ü 각"
    assert tokenizer.encode_user(decomposed, "text", 99) == tokenizer.encode_user("é ü 각", "text", 99)


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
def test_a_blank_text_is_refused_by_the_name_of_its_field(tokenizer: TextTokenizer, text: str) -> None:
    with pytest.raises(InvalidRequest, match="instruct is empty"):
        tokenizer.encode_user(text, "instruct", 99)


@pytest.mark.parametrize(
    "token", ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|never heard of|>", "<tts_pad>", "<think>", "<||>"]
)
def test_control_tokens_are_refused_by_name(tokenizer: TextTokenizer, token: str) -> None:
    with pytest.raises(InvalidRequest, match="text contains the control token") as caught:
        tokenizer.encode_user(f"Say {token}now", "text", 999)
    assert token in str(caught.value)


@pytest.mark.parametrize("text", ["a < b | c > d", "<im_start>", "x <| y", "|>", "<b>bold</b>"])
def test_text_that_only_resembles_a_control_token_is_spoken(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.encode_user(text, "text", 999)


def test_half_a_surrogate_pair_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        tokenizer.encode_user("a\ud83d b", "text", 999)


def test_no_user_text_makes_a_special_id(tokenizer: TextTokenizer, checkpoint: Checkpoint) -> None:
    first_special = min(checkpoint.model.ids.tts_pad, tokenizer.encode("<|endoftext|>")[0])
    assert max(tokenizer.encode_user("".join(map(chr, range(0x20, 0x250))), "text", 9_999)) < first_special


def test_the_template_may_use_special_tokens(tokenizer: TextTokenizer) -> None:
    assert len(tokenizer.encode("<|im_start|>assistant\n")) == 3


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        TextTokenizer(folder, "qwen2")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", "{"),
        ("merges.txt", "#version: 0.2\nonlyone\n"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"one": {"content": "x"}}}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"5": {}}}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"5": {"content": "<moved>"}}}'),
    ],
)
def test_an_unreadable_file_is_a_checkpoint_error(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError):
        TextTokenizer(folder, "qwen2")
