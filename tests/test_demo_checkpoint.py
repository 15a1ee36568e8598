"""The demo checkpoint has the released layout, is the same for the same seed, and makes itself heard."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from commands.demo_checkpoint import DemoCheckpointError, main, write_demo_checkpoint
from commands.demo_codec_config import codec_config
from commands.demo_codec_layout import codec_tensors
from commands.demo_config import checkpoint_config
from commands.demo_layout import Fill, Pin, TensorSpec, main_tensors
from commands.demo_tokenizer import demo_tokenizer, write_tokenizer
from commands.demo_weights import BLOCK_VALUES, write_file, write_sharded
from commands.render import Collector, Rendered
from tts_engine import Engine, EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.text import TextTokenizer

VARIANTS = [("base", "0b6"), ("base", "1b7"), ("custom_voice", "0b6"), ("custom_voice", "1b7"), ("voice_design", "1b7")]
FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "speech_tokenizer/config.json",
    "speech_tokenizer/preprocessor_config.json",
    "speech_tokenizer/configuration.json",
    "speech_tokenizer/model.safetensors",
}
MAIN, CODEC = "model.safetensors", "speech_tokenizer/model.safetensors"
PROMPT = "<|im_start|>assistant\n"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a mapping


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _values(specs: list[TensorSpec]) -> int:
    return sum(math.prod(spec.shape) for spec in specs)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A custom_voice checkpoint of the small size."""
    return write_demo_checkpoint(tmp_path_factory.mktemp("demo") / "model")


@pytest.mark.parametrize(("model_type", "size"), VARIANTS)
def test_every_variant_has_the_released_files_and_loads_with_every_tensor_used(
    model_type: str, size: str, tmp_path: Path
) -> None:
    folder = write_demo_checkpoint(tmp_path / "model", model_type=model_type, size=size)
    assert set(_files(folder)) == FILES
    networks = load_networks(Checkpoint.read(folder), torch.device("cpu"), torch.float32)
    assert torch.isfinite(networks.talker.codec_embedding).all()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_weights_in_the_same_layout(tmp_path: Path) -> None:
    first, again, other = (
        write_demo_checkpoint(tmp_path / name, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert _files(first) == _files(again)
    for file in (MAIN, CODEC):
        assert _shapes(first / file) == _shapes(other / file)
        assert (first / file).read_bytes() != (other / file).read_bytes()


def test_a_tiny_checkpoint_stays_tiny(demo: Path) -> None:
    assert sum(len(content) for content in _files(demo).values()) < 4_000_000


def test_the_main_file_is_bfloat16_and_the_codec_float32(demo: Path) -> None:
    assert {tensor.dtype for tensor in load_file(demo / MAIN).values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in load_file(demo / CODEC).values()} == {torch.float32}


def test_the_tiny_one_keeps_the_structure_of_the_real_one(tmp_path: Path) -> None:
    for size, projected in (("0b6", False), ("1b7", True)):
        folder = write_demo_checkpoint(tmp_path / size, size=size)
        talker = _config(folder)["talker_config"]
        assert talker["num_code_groups"] == 16
        assert talker["num_attention_heads"] * talker["head_dim"] != talker["hidden_size"]
        assert talker["text_hidden_size"] != talker["hidden_size"]
        assert talker["vocab_size"] == talker["code_predictor_config"]["vocab_size"] + 1024
        assert ("talker.code_predictor.small_to_mtp_projection.weight" in _shapes(folder / MAIN)) is projected


@pytest.mark.parametrize(("size", "parameters"), [("0b6", 905.8), ("1b7", 1916.6)])
def test_the_full_size_talker_has_the_released_number_of_values(size: str, parameters: float) -> None:
    config = checkpoint_config("custom_voice", size, True, demo_tokenizer(True).named_ids, None)
    specs = main_tensors(config)
    assert len(specs) == len({spec.name for spec in specs}) == {"0b6": 402, "1b7": 404}[size]
    assert _values(specs) / 1e6 == pytest.approx(parameters, abs=0.1)


def test_the_full_size_codec_has_the_released_number_of_values() -> None:
    specs = codec_tensors(codec_config(True), output_gain=1.0)
    assert len(specs) == len({spec.name for spec in specs}) == 496
    assert _values(specs) * 4 / 1e6 == pytest.approx(682, abs=1)
    assert _values([s for s in specs if s.name.startswith("decoder.")]) / 1e6 == pytest.approx(114.3, abs=0.1)


def test_the_encoder_side_has_the_shapes_its_config_implies(tmp_path: Path) -> None:
    folder = write_demo_checkpoint(tmp_path / "model", model_type="base", size="1b7")
    config, codec = _config(folder), json.loads((folder / "speech_tokenizer/config.json").read_text())["encoder_config"]
    hidden, width, codes = codec["hidden_size"], codec["codebook_dim"], codec["codebook_size"]
    shapes = _shapes(folder / CODEC)
    books = [name for name in shapes if name.startswith("encoder.") and name.endswith(".embed_sum")]
    assert len(books) == codec["num_quantizers"] == 32
    assert {shapes[name] for name in books} == {(codes, width)}
    filters = codec["num_filters"]
    strides = [shapes[f"encoder.encoder.layers.{layer}.conv.weight"] for layer in (3, 6, 9, 12)]
    assert strides == [(filters << i + 1, filters << i, 2 * rate) for i, rate in enumerate((4, 5, 6, 8))]
    assert shapes["encoder.encoder.layers.14.conv.weight"] == (hidden, 16 * filters, 3)
    assert shapes["encoder.downsample.conv.weight"] == (hidden, hidden, 4)
    speaker = config["speaker_encoder_config"]
    main_shapes = _shapes(folder / MAIN)
    assert main_shapes["speaker_encoder.fc.weight"] == (speaker["enc_dim"], 2 * speaker["enc_channels"][-1], 1)
    assert speaker["enc_dim"] == config["talker_config"]["hidden_size"]


def test_only_base_has_a_speaker_encoder(demo: Path) -> None:
    assert "speaker_encoder_config" not in _config(demo)
    assert not any(name.startswith("speaker_encoder.") for name in _shapes(demo / MAIN))


def test_the_config_says_that_nothing_was_trained(demo: Path) -> None:
    assert _config(demo)["untrained_demo"] is True


def test_dialects_belong_to_two_of_nine_speakers(demo: Path) -> None:
    talker = _config(demo)["talker_config"]
    assert len(talker["spk_id"]) == 9
    dialects = {name: dialect for name, dialect in talker["spk_is_dialect"].items() if dialect}
    assert dialects == {"eric": "sichuan_dialect", "dylan": "beijing_dialect"}
    assert set(dialects.values()) < set(talker["codec_language_id"])


def test_a_fine_tuned_table_replaces_the_speakers(tmp_path: Path) -> None:
    folder = write_demo_checkpoint(tmp_path / "model", speakers={"narrator": 3000})
    talker = _config(folder)["talker_config"]
    assert talker["spk_id"] == {"narrator": 3000 - 2048 + 64}
    assert talker["spk_is_dialect"] == {"narrator": False}


@pytest.mark.parametrize("full_size", [False, True])
def test_the_prompt_markup_has_the_lengths_the_package_slices_by(full_size: bool, tmp_path: Path) -> None:
    tokenizer = demo_tokenizer(full_size)
    write_tokenizer(tokenizer, tmp_path)
    text = TextTokenizer(tmp_path, "qwen2")
    named = tokenizer.named_ids
    assert text.encode(PROMPT)[:2] == [named["<|im_start|>"], named["assistant"]]
    assert len(text.encode(PROMPT)) == 3
    assert len(text.encode(f"<|im_end|>\n{PROMPT}")) == 5
    assert len(text.encode("<|im_start|>user\n")) == 3
    assert max(named.values()) == named["vocabulary"]


def test_the_full_vocabulary_has_the_released_ids() -> None:
    named = demo_tokenizer(True).named_ids
    assert named["assistant"] == 77_091
    assert [named[t] for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [151_643, 151_644, 151_645]
    assert [named[t] for t in ("<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")] == [151_671, 151_672, 151_673]
    assert named["vocabulary"] == 151_936


def test_shards_hold_the_same_tensors_as_one_file(tmp_path: Path) -> None:
    specs = main_tensors(checkpoint_config("base", "1b7", False, demo_tokenizer(False).named_ids, None))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, limit in ((whole, 1 << 40), (parts, 300_000)):
        folder.mkdir()
        write_sharded(folder, specs, torch.bfloat16, 0, "cpu", limit)
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    expected = load_file(whole / MAIN)
    assert set(index["weight_map"]) == set(expected)
    for name, shard in index["weight_map"].items():
        assert torch.equal(load_file(parts / shard)[name], expected[name])


def test_a_tensor_of_several_blocks_is_whole(tmp_path: Path) -> None:
    rows, width = BLOCK_VALUES // 1000, 2048
    late = rows - 2
    fill = Fill(1.0, 0.5, pins=(Pin(range(late, late + 1), None, 0.0), Pin(range(late, late + 1), range(3, 4), 7.0)))
    write_file(tmp_path / "one.safetensors", [TensorSpec("big", (rows, width), fill)], torch.bfloat16, 0, "cpu")
    big = load_file(tmp_path / "one.safetensors")["big"].float()
    assert big.shape == (rows, width)
    assert big.mean().item() == pytest.approx(1.0, abs=0.01)
    assert big[:-2].std().item() == pytest.approx(0.5, abs=0.01)
    assert big[late].nonzero().tolist() == [[3]]
    assert big[late, 3] == 7.0
    assert len(torch.unique(big[:, 0])) > 100


@pytest.fixture(scope="module")
def spoken(demo: Path) -> dict[str, Rendered]:
    """Texts of three lengths, spoken greedily."""
    texts = ("Hi.", "Hello world, a sentence.", "Hello world, a sentence that is twice as long.")
    engine = Engine.load(demo, EngineConfig(slots=3), voices=None, device="cpu", dtype="float32", threads="1")
    engine.start()
    try:
        sinks = {text: Collector() for text in texts}
        for text, sink in sinks.items():
            engine.submit(Speak(text=text, voice="ryan", language="english", temperature=0.0), sink)
        return {text: sink.rendered.result(60) for text, sink in sinks.items()}
    finally:
        engine.shutdown()


def test_the_demo_speaks_longer_for_a_longer_text_and_ends_by_itself(spoken: dict[str, Rendered]) -> None:
    assert [speech.outcome.reason for speech in spoken.values()] == ["complete"] * 3
    short, middle, long = (len(speech.codes) for speech in spoken.values())
    assert 6 <= short < middle < long < 150


def test_the_demo_is_audible_and_does_not_clip(spoken: dict[str, Rendered]) -> None:
    for speech in spoken.values():
        sound = speech.pcm / 32_767
        assert 0.04 < np.sqrt(np.mean(sound**2)) < 0.2
        assert np.abs(sound).max() < 0.9
        assert abs(sound.mean()) < 0.005


def test_the_demo_does_not_repeat_itself(spoken: dict[str, Rendered]) -> None:
    for speech in spoken.values():
        assert len(np.unique(speech.codes, axis=0)) > 0.9 * len(speech.codes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_type": "singing"}, "type 'singing' is not one of base, custom_voice, voice_design"),
        ({"size": "7b"}, "size '7b' is not one of 0b6, 1b7"),
        ({"model_type": "base", "speakers": {"a": 3000}}, "type 'base' has no speaker table"),
        ({"speakers": {"a": 12}}, "speaker 'a': id 12 is not between 2048 and 3071"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_written(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DemoCheckpointError, match=message):
        write_demo_checkpoint(tmp_path / "model", **arguments)
    assert not (tmp_path / "model").exists()


def test_a_failure_halfway_leaves_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_demo_checkpoint(tmp_path / "model", device="no such device")
    assert list((tmp_path / "model").iterdir()) == []


def test_the_command_writes_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "model"), "--type", "voice_design", "--size", "1b7", "--seed", "5"]) == 0
    assert "voice_design 1b7, seed 5, untrained" in capsys.readouterr().out
    assert _config(tmp_path / "model")["tts_model_type"] == "voice_design"


def test_the_command_refuses_a_directory_with_something_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"make_demo_model: {tmp_path} exists and is not empty\n"
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_the_command_refuses_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"make_demo_model: {tmp_path / 'file'} exists and is not a directory\n"
