"""Which tensors a config implies: names, shapes and how a demo fills them (talker side and speaker encoder).

Reads config dictionaries only. It knows nothing about the codec (demo_codec_layout.py), about random numbers
or about files (demo_weights.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# The package's defaults for what a released speaker_encoder_config leaves out.
SPEAKER_ENCODER_DEFAULTS: dict[str, Any] = {
    "mel_dim": 128,
    "enc_channels": [512, 512, 512, 512, 1536],
    "enc_kernel_sizes": [5, 3, 3, 3, 1],
    "enc_attention_channels": 128,
    "enc_res2net_scale": 8,
    "enc_se_channels": 128,
}
# Logits of standard deviation 2: sharp enough that a greedy choice is no coin flip, flat enough to sample from.
LOGIT_STD = 2.0
EMBEDDING_STD = 0.5


@dataclass(frozen=True)
class Pin:
    """One value for all cells of a 1-D or 2-D tensor in these rows and columns; None means every one."""

    rows: range | None
    columns: range | None
    value: float


@dataclass(frozen=True)
class Fill:
    """Normal values for one tensor.

    `zero_sum` takes the mean out of each kernel (the last axis), so that a convolution ignores a constant input.
    `pins` are set afterwards, in order.
    """

    mean: float
    std: float
    zero_sum: bool = False
    pins: tuple[Pin, ...] = ()


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a checkpoint file."""

    name: str
    shape: tuple[int, ...]
    fill: Fill


NORM = Fill(1.0, 0.1)
BIAS = Fill(0.0, 0.1)


def linear(name: str, rows: int, columns: int, bias: bool = False, gain: float = 1.0) -> Iterator[TensorSpec]:
    """A linear layer whose output has `gain` times the size of its input."""
    yield TensorSpec(f"{name}.weight", (rows, columns), Fill(0.0, gain / columns**0.5))
    if bias:
        yield TensorSpec(f"{name}.bias", (rows,), BIAS)


def conv(name: str, rows: int, columns: int, kernel: int, bias: bool = True, gain: float = 1.0) -> Iterator[TensorSpec]:
    """A 1-D convolution whose output has `gain` times the size of its input."""
    yield TensorSpec(f"{name}.weight", (rows, columns, kernel), Fill(0.0, gain / (columns * kernel) ** 0.5))
    if bias:
        yield TensorSpec(f"{name}.bias", (rows,), BIAS)


def norm(name: str, width: int, bias: bool = False) -> Iterator[TensorSpec]:
    """A norm's weight, near one."""
    yield TensorSpec(f"{name}.weight", (width,), NORM)
    if bias:
        yield TensorSpec(f"{name}.bias", (width,), BIAS)


def _embedding(name: str, rows: int, width: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (rows, width), Fill(0.0, EMBEDDING_STD))


def decoder_layer(prefix: str, config: dict[str, Any]) -> Iterator[TensorSpec]:
    """One gated transformer layer without the norms on queries and keys."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield from norm(f"{prefix}.input_layernorm", hidden)
    yield from norm(f"{prefix}.post_attention_layernorm", hidden)
    yield from linear(f"{prefix}.self_attn.q_proj", queries, hidden)
    yield from linear(f"{prefix}.self_attn.k_proj", keys, hidden)
    yield from linear(f"{prefix}.self_attn.v_proj", keys, hidden)
    yield from linear(f"{prefix}.self_attn.o_proj", hidden, queries)
    yield from linear(f"{prefix}.mlp.gate_proj", inner, hidden)
    yield from linear(f"{prefix}.mlp.up_proj", inner, hidden)
    yield from linear(f"{prefix}.mlp.down_proj", hidden, inner)


def _qwen3_layers(prefix: str, config: dict[str, Any]) -> Iterator[TensorSpec]:
    for index in range(config["num_hidden_layers"]):
        layer = f"{prefix}.layers.{index}"
        yield from decoder_layer(layer, config)
        yield from norm(f"{layer}.self_attn.q_norm", config["head_dim"])
        yield from norm(f"{layer}.self_attn.k_norm", config["head_dim"])
    yield from norm(f"{prefix}.norm", config["hidden_size"])


def _predictor(config: dict[str, Any], talker_hidden: int) -> Iterator[TensorSpec]:
    prefix, hidden, codes = "talker.code_predictor", config["hidden_size"], config["vocab_size"]
    for group in range(config["num_code_groups"] - 1):
        yield from _embedding(f"{prefix}.model.codec_embedding.{group}", codes, talker_hidden)
        yield from linear(f"{prefix}.lm_head.{group}", codes, hidden, gain=LOGIT_STD)
    yield from _qwen3_layers(f"{prefix}.model", config)
    if hidden != talker_hidden:
        yield from linear(f"{prefix}.small_to_mtp_projection", hidden, talker_hidden, bias=True)


def _talker(config: dict[str, Any]) -> Iterator[TensorSpec]:
    hidden, text = config["hidden_size"], config["text_hidden_size"]
    yield from _embedding("talker.model.text_embedding", config["text_vocab_size"], text)
    yield from _embedding("talker.model.codec_embedding", config["vocab_size"], hidden)
    yield from linear("talker.text_projection.linear_fc1", text, text, bias=True, gain=2.0)
    yield from linear("talker.text_projection.linear_fc2", hidden, text, bias=True)
    yield from _qwen3_layers("talker.model", config)
    yield from linear("talker.codec_head", config["vocab_size"], hidden, gain=LOGIT_STD)


def _speaker_encoder(given: dict[str, Any]) -> Iterator[TensorSpec]:
    config = SPEAKER_ENCODER_DEFAULTS | given
    channels, kernels = config["enc_channels"], config["enc_kernel_sizes"]
    scale, squeeze, attention = (
        config["enc_res2net_scale"],
        config["enc_se_channels"],
        config["enc_attention_channels"],
    )
    prefix = "speaker_encoder"
    # Log-mel input is about four times unit size.
    yield from conv(f"{prefix}.blocks.0.conv", channels[0], config["mel_dim"], kernels[0], gain=0.25)
    for index in range(1, len(channels) - 1):
        block, width, part = f"{prefix}.blocks.{index}", channels[index], channels[index] // scale
        yield from conv(f"{block}.tdnn1.conv", width, channels[index - 1], 1)
        for piece in range(scale - 1):
            yield from conv(f"{block}.res2net_block.blocks.{piece}.conv", part, part, kernels[index])
        yield from conv(f"{block}.tdnn2.conv", width, width, 1)
        yield from conv(f"{block}.se_block.conv1", squeeze, width, 1)
        yield from conv(f"{block}.se_block.conv2", width, squeeze, 1)
    pooled = channels[-1]
    yield from conv(f"{prefix}.mfa.conv", pooled, sum(channels[1:-1]), kernels[-1])
    yield from conv(f"{prefix}.asp.tdnn.conv", attention, 3 * pooled, 1)
    yield from conv(f"{prefix}.asp.conv", pooled, attention, 1)
    yield from conv(f"{prefix}.fc", config["enc_dim"], 2 * pooled, 1, gain=EMBEDDING_STD)


def main_tensors(config: dict[str, Any]) -> list[TensorSpec]:
    """Every tensor of the main file, in file order, for a top-level config."""
    talker = config["talker_config"]
    specs = list(_talker(talker))
    specs += _predictor(talker["code_predictor_config"], talker["hidden_size"])
    if "speaker_encoder_config" in config:
        specs += _speaker_encoder(config["speaker_encoder_config"])
    return specs
