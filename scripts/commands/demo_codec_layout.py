"""Which tensors a codec config implies: names, shapes and how a demo fills them.

The decoder is kept well conditioned: a random vocoder of unit gain clips and turns rounding noise into audible
differences, so residual branches and the last convolution are drawn small. It knows neither random numbers nor
files (demo_weights.py).
"""

from collections.abc import Iterator
from typing import Any

from commands.demo_layout import Fill, TensorSpec, conv, decoder_layer, linear, norm

LAYER_SCALE = Fill(0.3, 0.05)
SNAKE = Fill(0.0, 0.1)
USAGE = Fill(1.0, 0.1)
RESIDUAL_GAIN = 0.3


def _codebook(prefix: str, sums: str, config: dict[str, Any], width: int, std: float) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{prefix}.{sums}", (config["codebook_size"], width), Fill(0.0, std))
    yield TensorSpec(f"{prefix}.cluster_usage", (config["codebook_size"],), USAGE)


def _decoder_quantizer(config: dict[str, Any]) -> Iterator[TensorSpec]:
    whole = config["codebook_dim"]
    width, semantic = whole // 2, config["num_semantic_quantizers"]
    for part, count in (("rvq_first", semantic), ("rvq_rest", config["num_quantizers"] - semantic)):
        prefix = f"decoder.quantizer.{part}"
        yield from conv(f"{prefix}.input_proj", width, whole, 1, bias=False)
        yield from conv(f"{prefix}.output_proj", whole, width, 1, bias=False)
        for index in range(count):
            # The codebooks of one part add up to unit size.
            yield from _codebook(f"{prefix}.vq.layers.{index}._codebook", "embedding_sum", config, width, count**-0.5)


def _pre_transformer(config: dict[str, Any]) -> Iterator[TensorSpec]:
    prefix, hidden = "decoder.pre_transformer", config["hidden_size"]
    yield from linear(f"{prefix}.input_proj", hidden, config["latent_dim"], bias=True)
    for index in range(config["num_hidden_layers"]):
        layer = f"{prefix}.layers.{index}"
        yield from decoder_layer(layer, config)
        yield TensorSpec(f"{layer}.self_attn_layer_scale.scale", (hidden,), LAYER_SCALE)
        yield TensorSpec(f"{layer}.mlp_layer_scale.scale", (hidden,), LAYER_SCALE)
    yield from norm(f"{prefix}.norm", hidden)
    yield from linear(f"{prefix}.output_proj", config["latent_dim"], hidden, bias=True)


def _transposed(name: str, inputs: int, outputs: int, kernel: int, taps: int) -> Iterator[TensorSpec]:
    """A transposed convolution of unit gain: `taps` kernel positions meet in each output sample."""
    yield TensorSpec(f"{name}.weight", (inputs, outputs, kernel), Fill(0.0, (inputs * taps) ** -0.5))
    yield TensorSpec(f"{name}.bias", (outputs,), Fill(0.0, 0.05))


def _upsample(config: dict[str, Any]) -> Iterator[TensorSpec]:
    width = config["latent_dim"]
    for index, ratio in enumerate(config["upsampling_ratios"]):
        stage = f"decoder.upsample.{index}"
        yield from _transposed(f"{stage}.0.conv", width, width, ratio, taps=1)
        yield from conv(f"{stage}.1.dwconv.conv", width, 1, 7)
        yield from norm(f"{stage}.1.norm", width, bias=True)
        yield from linear(f"{stage}.1.pwconv1", 4 * width, width, bias=True)
        yield from linear(f"{stage}.1.pwconv2", width, 4 * width, bias=True)
        yield TensorSpec(f"{stage}.1.gamma", (width,), LAYER_SCALE)


def _snake(name: str, width: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.alpha", (width,), SNAKE)
    yield TensorSpec(f"{name}.beta", (width,), SNAKE)


def _vocoder(config: dict[str, Any], output_gain: float) -> Iterator[TensorSpec]:
    prefix, width = "decoder.decoder", config["decoder_dim"]
    yield from conv(f"{prefix}.0.conv", width, config["latent_dim"], 7)
    for index, rate in enumerate(config["upsample_rates"], start=1):
        block = f"{prefix}.{index}.block"
        yield from _snake(f"{block}.0", width)
        yield from _transposed(f"{block}.1.conv", width, width // 2, 2 * rate, taps=2)
        width //= 2
        for unit in (2, 3, 4):
            yield from _snake(f"{block}.{unit}.act1", width)
            yield from conv(f"{block}.{unit}.conv1.conv", width, width, 7)
            yield from _snake(f"{block}.{unit}.act2", width)
            yield from conv(f"{block}.{unit}.conv2.conv", width, width, 1, gain=RESIDUAL_GAIN)
    last = len(config["upsample_rates"]) + 1
    yield from _snake(f"{prefix}.{last}", width)
    # SnakeBeta adds a constant to its input; the last kernel keeps it out of the audio.
    weight = Fill(0.0, output_gain / (7 * width) ** 0.5, zero_sum=True)
    yield TensorSpec(f"{prefix}.{last + 1}.conv.weight", (1, width, 7), weight)
    yield TensorSpec(f"{prefix}.{last + 1}.conv.bias", (1,), Fill(0.0, 0.0))


def _encoder_convolutions(config: dict[str, Any]) -> Iterator[TensorSpec]:
    prefix, width = "encoder.encoder.layers", config["num_filters"]
    yield from conv(f"{prefix}.0.conv", width, config["audio_channels"], config["kernel_size"], gain=4.0)
    position = 1  # activations count as layers of their own and have no tensors
    for ratio in reversed(config["upsampling_ratios"]):
        for _ in range(config["num_residual_layers"]):
            inner = width // config["compress"]
            yield from conv(f"{prefix}.{position}.block.1.conv", inner, width, config["residual_kernel_size"], gain=1.5)
            yield from conv(f"{prefix}.{position}.block.3.conv", width, inner, 1)
            position += 1
        yield from conv(f"{prefix}.{position + 1}.conv", 2 * width, width, 2 * ratio, gain=1.3)
        position, width = position + 2, 2 * width
    yield from conv(f"{prefix}.{position + 1}.conv", config["hidden_size"], width, config["last_kernel_size"], gain=1.3)


def _encoder_transformer(config: dict[str, Any]) -> Iterator[TensorSpec]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.encoder_transformer.layers.{index}"
        yield from norm(f"{layer}.input_layernorm", hidden, bias=True)
        yield from norm(f"{layer}.post_attention_layernorm", hidden, bias=True)
        yield from linear(f"{layer}.self_attn.q_proj", queries, hidden)
        yield from linear(f"{layer}.self_attn.k_proj", keys, hidden)
        yield from linear(f"{layer}.self_attn.v_proj", keys, hidden)
        yield from linear(f"{layer}.self_attn.o_proj", hidden, queries)
        yield from linear(f"{layer}.mlp.fc1", inner, hidden)
        yield from linear(f"{layer}.mlp.fc2", hidden, inner)
        yield TensorSpec(f"{layer}.self_attn_layer_scale.scale", (hidden,), LAYER_SCALE)
        yield TensorSpec(f"{layer}.mlp_layer_scale.scale", (hidden,), LAYER_SCALE)


def _encoder_quantizer(config: dict[str, Any]) -> Iterator[TensorSpec]:
    hidden, width = config["hidden_size"], config["codebook_dim"]
    semantic = config["num_semantic_quantizers"]
    for part, count in (("semantic", semantic), ("acoustic", config["num_quantizers"] - semantic)):
        prefix = f"encoder.quantizer.{part}_residual_vector_quantizer"
        yield from conv(f"{prefix}.input_proj", width, hidden, 1, bias=False)
        yield from conv(f"{prefix}.output_proj", hidden, width, 1, bias=False)
        for index in range(count):
            codebook = f"{prefix}.layers.{index}.codebook"
            # Each quantizer codes what the ones before it left over, so its entries are smaller.
            yield from _codebook(codebook, "embed_sum", config, width, max(0.9**index, 0.1))
            yield TensorSpec(f"{codebook}.initialized", (1,), Fill(1.0, 0.0))


def codec_tensors(config: dict[str, Any], output_gain: float) -> list[TensorSpec]:
    """Every tensor of the codec file, in file order, for a speech_tokenizer config.

    `output_gain` is the size of the audio next to the last activation.
    """
    decoder, encoder = config["decoder_config"], config["encoder_config"]
    specs = list(_decoder_quantizer(decoder))
    specs += conv("decoder.pre_conv.conv", decoder["latent_dim"], decoder["codebook_dim"], 3)
    specs += _pre_transformer(decoder)
    specs += _upsample(decoder)
    specs += _vocoder(decoder, output_gain)
    specs += _encoder_convolutions(encoder)
    specs += _encoder_transformer(encoder)
    specs += conv("encoder.downsample.conv", encoder["hidden_size"], encoder["hidden_size"], 4, bias=False)
    specs += _encoder_quantizer(encoder)
    return specs
