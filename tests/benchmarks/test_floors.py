"""The floors: their arithmetic against the checkpoints' tensors, and against the figures of the design."""

import math
from collections.abc import Iterable
from typing import Any

import pytest

from benchmarks import floors
from benchmarks.floors import Rates, Work
from commands.demo_codec_config import codec_config
from commands.demo_codec_layout import codec_tensors
from commands.demo_config import checkpoint_config
from commands.demo_layout import TensorSpec, main_tensors
from commands.demo_tokenizer import demo_tokenizer
from tts_engine.codec_config import CodecConfig
from tts_engine.model_config import ModelConfig

BF16, FP32 = 2, 4
# One H200: bytes/s, and bf16 operations/s.
H200 = Rates(4.3e12, 790e12)
SIZES = ("0b6", "1b7")


def config_of(size: str, full_size: bool = True) -> dict[str, Any]:
    return checkpoint_config("custom_voice", size, full_size, demo_tokenizer(full_size).named_ids, None)


def model_of(size: str, full_size: bool = True) -> ModelConfig:
    return ModelConfig.read(config_of(size, full_size))


def codec_of(full_size: bool = True) -> CodecConfig:
    return CodecConfig.read(codec_config(full_size))


def matrices(tensors: Iterable[TensorSpec], *beginnings: str) -> int:
    """Values in the tensors of more than one dimension whose names begin so."""
    chosen = [spec for spec in tensors if spec.name.startswith(beginnings) and len(spec.shape) > 1]
    return sum(math.prod(spec.shape) for spec in chosen)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("full_size", [False, True])
def test_a_talker_step_reads_every_matrix_of_its_layers_and_head_once(size: str, full_size: bool) -> None:
    tensors = main_tensors(config_of(size, full_size))
    expected = matrices(tensors, "talker.model.layers.", "talker.codec_head.")
    assert floors.talker_step(model_of(size, full_size), 1, 0, 1).bytes == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("full_size", [False, True])
def test_a_frame_reads_the_predictors_layers_fifteen_times_and_its_heads_once(size: str, full_size: bool) -> None:
    prefix, tensors = "talker.code_predictor", main_tensors(config_of(size, full_size))
    layers = matrices(tensors, f"{prefix}.model.layers.")
    once = matrices(tensors, f"{prefix}.lm_head.", f"{prefix}.small_to_mtp_projection.")
    assert floors.predictor_frame(model_of(size, full_size), 0, 1).bytes == 15 * layers + once


@pytest.mark.parametrize("full_size", [False, True])
def test_the_codec_reads_every_matrix_and_kernel_of_its_decoder_once(full_size: bool) -> None:
    tensors = [spec for spec in codec_tensors(codec_config(full_size), 1.0) if not spec.name.endswith("embedding_sum")]
    # The projections of the codebooks are not read but for recordings, or folded into the codebooks.
    unread = matrices(tensors, "decoder.quantizer.rvq_first.", "decoder.quantizer.rvq_rest.")
    assert floors.codec_weights(codec_of(full_size)) == matrices(tensors, "decoder.") - unread


@pytest.mark.parametrize(
    ("work", "gigabytes", "gigaflops"),
    [
        (floors.talker_step(model_of("0b6"), 1, 200, BF16), 0.887 + 200 * 114_688e-9, 0.93),
        (floors.talker_step(model_of("1b7"), 1, 200, BF16), 2.831 + 200 * 114_688e-9, 2.88),
        (floors.predictor_frame(model_of("0b6"), 1, BF16), 2.422, 2.58),
        # The projection of the predictor's inputs is folded into its tables, but for one position of sixteen.
        (floors.predictor_frame(model_of("1b7"), 1, BF16), 2.485 - 14 * 0.0042, 2.65 - 15 * 0.0042),
        (floors.codec_frame(codec_of(), 1, BF16), 0.211 + 0.012, 4.96),
    ],
)
def test_bytes_and_operations_are_those_of_the_released_dimensions(
    work: Work, gigabytes: float, gigaflops: float
) -> None:
    assert work.bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)
    assert work.flops / 1e9 == pytest.approx(gigaflops, rel=0.01)


@pytest.mark.parametrize(
    ("size", "rows", "milliseconds"),
    [
        *(("0b6", rows, ms) for rows, ms in ((1, 0.83), (8, 0.91), (32, 1.18), (64, 1.55), (256, 4.02))),
        *(("1b7", rows, ms) for rows, ms in ((1, 1.30), (8, 1.38), (32, 1.65), (64, 2.02), (256, 4.49))),
    ],
)
def test_a_step_on_an_h200_needs_what_the_roofline_says(size: str, rows: int, milliseconds: float) -> None:
    model = model_of(size)
    works = (
        floors.talker_step(model, rows, 200, BF16),
        floors.predictor_frame(model, rows, BF16),
        floors.codec_frame(codec_of(), rows, BF16),
    )
    assert 1e3 * sum(work.seconds(H200) for work in works) == pytest.approx(milliseconds, rel=0.03)


def test_a_floor_is_set_by_the_slower_of_memory_and_arithmetic() -> None:
    rates = Rates(bandwidth=100.0, compute=1000.0)
    assert Work(200, 1000).seconds(rates) == 2.0
    assert Work(200, 1000).bound(rates) == "memory"
    assert Work(200, 4000).seconds(rates) == 4.0
    assert Work(200, 4000).bound(rates) == "compute"


def test_more_context_costs_its_keys_and_values() -> None:
    model = model_of("0b6")
    longer, shorter = floors.talker_step(model, 8, 1200, BF16), floors.talker_step(model, 8, 200, BF16)
    assert longer.bytes - shorter.bytes == 8 * 1000 * 114_688


def test_a_prefix_that_is_kept_saves_the_arithmetic_of_its_positions() -> None:
    model = model_of("0b6")
    whole, rest = floors.prefill(model, 2, 100, 0, FP32), floors.prefill(model, 2, 100, 40, FP32)
    prefix = floors.prefill(model, 2, 40, 0, FP32)
    assert whole.flops == rest.flops + prefix.flops
    assert whole.bytes == rest.bytes
