"""A checkpoint's tensors: each used exactly once, from one file or many, or a clear error."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conftest import Demo
from tests.engine.conftest import SMALL, VOICES
from tests.engine.fakes import Listener
from tts_engine import CheckpointError, Engine, Speak
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.weights import open_weights

CPU = torch.device("cpu")
MAIN, CODEC = "model.safetensors", "speech_tokenizer/model.safetensors"
NORM = "talker.model.norm.weight"
LAYER = "talker.model.layers.0"

Change = Callable[[dict[str, Tensor]], None]


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Networks:
    return load_networks(Checkpoint.read(folder), CPU, dtype)


def change(path: Path, how: Change) -> None:
    tensors = load_file(path)
    how(tensors)
    save_file(tensors, path)


def shard(folder: Path, files: int = 3) -> None:
    """Replace the one file by several and an index, as large checkpoints are released."""
    tensors = load_file(folder / MAIN)
    (folder / MAIN).unlink()
    names = {name: f"model-{number % files + 1:05}-of-{files:05}.safetensors" for number, name in enumerate(tensors)}
    for file in set(names.values()):
        save_file({name: tensor for name, tensor in tensors.items() if names[name] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": names}
    (folder / f"{MAIN}.index.json").write_text(json.dumps(index))


def spoken(folder: Path, dtype: str = "float32") -> np.ndarray:
    engine, listener = Engine.load(folder, SMALL, VOICES, device="cpu", dtype=dtype, threads="1"), Listener()
    engine.start()
    engine.submit(Speak(text="Hello", seed=5, max_frames=6), listener)
    assert listener.outcome.error is None
    engine.shutdown()
    return listener.codes


@pytest.mark.parametrize("kind", [("custom_voice", "0b6"), ("custom_voice", "1b7"), ("voice_design", "1b7")])
def test_every_tensor_of_a_checkpoint_is_used_or_known_to_be_of_no_use(demo: Demo, kind: tuple[str, str]) -> None:
    load(demo(model_type=kind[0], size=kind[1]))


@pytest.mark.parametrize("size", ["0b6", "1b7"])
def test_a_base_checkpoint_has_its_encoders_loaded(demo: Demo, size: str) -> None:
    voices = load(demo(model_type="base", size=size)).voices
    assert voices is not None
    assert voices.codec_encoder.codebooks.dtype == torch.float32
    assert load(demo()).voices is None


def test_a_speaker_encoder_that_nobody_needs_is_left(folder: Path, demo: Demo) -> None:
    encoder = {
        name: tensor
        for path in demo(model_type="base").glob("*.safetensors")
        for name, tensor in load_file(path).items()
        if name.startswith("speaker_encoder.")
    }
    assert encoder
    change(folder / MAIN, lambda tensors: tensors.update(encoder))
    assert load(folder).voices is None


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (MAIN, NORM),
        (MAIN, "talker.code_predictor.lm_head.14.weight"),
        (CODEC, "decoder.pre_conv.conv.bias"),
        (CODEC, "decoder.decoder.5.alpha"),
    ],
)
def test_a_missing_tensor_is_named(folder: Path, file: str, name: str) -> None:
    change(folder / file, lambda tensors: tensors.__delitem__(name))
    with pytest.raises(CheckpointError, match=f"the checkpoint has no tensor '{name}'"):
        load(folder)


@pytest.mark.parametrize("file", [MAIN, CODEC])
def test_tensors_nobody_uses_are_named(folder: Path, file: str) -> None:
    extra = {f"decoder.extra.{number}": torch.zeros(1) for number in range(7)}
    change(folder / file, lambda tensors: tensors.update(extra))
    with pytest.raises(CheckpointError, match=r"does not use: decoder\.extra\.0, .*extra\.4 and 2 more"):
        load(folder)


@pytest.mark.parametrize("shape", [(63,), (1, 64), (65,)])
def test_a_tensor_of_another_shape_is_named_with_both(folder: Path, shape: tuple[int, ...]) -> None:
    change(folder / MAIN, lambda tensors: tensors.update({NORM: torch.zeros(shape)}))
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value) == f"tensor {NORM!r} has shape {shape}, the config says (64,)"


def test_a_tensor_may_not_be_taken_twice(demo: Demo) -> None:
    def take_twice() -> None:
        with open_weights(demo(), CPU) as weights:
            weights.take(NORM, 64)
            weights.take(NORM, 64)

    with pytest.raises(CheckpointError, match=f"tensor '{NORM}' would be used twice"):
        take_twice()


def test_weights_come_in_the_precision_last_asked_for(demo: Demo) -> None:
    with open_weights(demo(), CPU) as weights:
        assert weights.take(NORM, 64).dtype == torch.float32
        assert (
            weights.cast(torch.float64).take("talker.model.layers.0.input_layernorm.weight", 64).dtype == torch.float64
        )
        weights.leave(("talker.",))


def test_an_error_of_the_reader_is_not_hidden_by_what_it_left_over(demo: Demo) -> None:
    with pytest.raises(ZeroDivisionError), open_weights(demo(), CPU):
        raise ZeroDivisionError


def test_a_sharded_checkpoint_says_the_same(folder: Path, demo: Demo) -> None:
    shard(folder)
    assert np.array_equal(spoken(folder), spoken(demo()))


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*model-00002-of-00003"):
        load(folder)


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    shard(folder)
    first = next(iter(load_file(folder / "model-00001-of-00003.safetensors")))
    change(folder / "model-00002-of-00003.safetensors", lambda tensors: tensors.update({first: torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="stands in more than one file"):
        load(folder)


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ("{", "is not a safetensors index"),
        ("{}", "is not a safetensors index"),
        ("[]", "is not a safetensors index"),
        ('{"weight_map": []}', "is not a safetensors index"),
        ('{"weight_map": {"a": 5}}', "is not a safetensors index"),
        ('{"weight_map": {"a": ["x"]}}', "is not a safetensors index"),
        ('{"weight_map": {"a": "../other/model.safetensors"}}', "names a shard outside its folder"),
    ],
)
def test_a_bad_index_is_refused(folder: Path, index: str, complaint: str) -> None:
    (folder / MAIN).unlink()
    (folder / f"{MAIN}.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=complaint):
        load(folder)


def test_no_weights_at_all_are_refused(folder: Path) -> None:
    (folder / MAIN).unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        load(folder)


def test_a_broken_file_is_refused(folder: Path) -> None:
    (folder / MAIN).write_bytes((folder / MAIN).read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"cannot read .*model\.safetensors"):
        load(folder)


def test_a_bfloat16_checkpoint_runs_in_every_precision(demo: Demo) -> None:
    assert load_file(demo() / MAIN)[NORM].dtype == torch.bfloat16
    for dtype in ("bfloat16", "float32", "float64"):
        codes = spoken(demo(), dtype)
        assert codes.shape == (6, 16)
        assert 0 <= codes.min() <= codes.max() < 64


def test_a_float32_checkpoint_says_what_its_bfloat16_twin_says(folder: Path, demo: Demo) -> None:
    change(folder / MAIN, lambda tensors: tensors.update({name: t.float() for name, t in tensors.items()}))
    assert np.array_equal(spoken(folder), spoken(demo()))


def test_the_codec_is_never_less_precise_than_its_weights(demo: Demo) -> None:
    networks = load(demo(), torch.bfloat16)
    assert networks.talker.head.weight.dtype == networks.predictor.heads[0].weight.dtype == torch.bfloat16
    assert networks.codec.codebooks.dtype == networks.codec.exit.convolution.bias.dtype == torch.float32


def test_the_encoders_are_never_less_precise_than_their_weights(demo: Demo) -> None:
    voices = load(demo(model_type="base"), torch.bfloat16).voices
    assert voices is not None
    assert voices.codec_encoder.codebooks.dtype == torch.float32
    assert load(demo(model_type="base"), torch.float64).codec.codebooks.dtype == torch.float64
