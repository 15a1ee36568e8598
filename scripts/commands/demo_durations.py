"""Makes a random talker end its speech: later for a long text than for a short one.

Without training the end comes at once or never. Here three channels of the talker are wired by hand, the rest
stays random: a mark that says how far the text has been spoken, its mean over everything heard so far, and the
end-of-speech logit that grows with that mean. It only changes how tensors are filled, no name and no shape.

The mark is +1 where generated codes meet the padding that follows the text, 0 where they meet text, and -1 where
text lies in the prompt. One attention head of the first layer is made to look everywhere alike, which gives the
mean.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from commands.demo_layout import Pin, TensorSpec

CHANNELS = range(0, 2)  # of the talker's hidden state
MARK, MEAN = range(0, 1), range(1, 2)
SWITCH = range(0, 1)  # the channel of the text embedding that tells padding from text
MARK_SIZE = 6.0
SWITCH_SIZE = 5.0
MEAN_GAIN = 4.0
MEAN_OFFSET = -0.5  # moves the end of speech behind the end of the text
END_GAIN = 12.0


def _column(row: range, column: range, value: float) -> tuple[Pin, ...]:
    """A row that reads one column and nothing else."""
    return (Pin(row, None, 0.0), Pin(row, column, value))


def _input_pins(config: dict[str, Any]) -> dict[str, tuple[Pin, ...]]:
    """Pins of the embeddings and of the text projection: who carries the mark."""
    talker = config["talker_config"]
    padding, codes = config["tts_pad_token_id"], talker["code_predictor_config"]["vocab_size"]
    quiet = Pin(None, CHANNELS, 0.0)
    pins: dict[str, tuple[Pin, ...]] = {
        "talker.model.text_embedding.weight": (
            Pin(None, SWITCH, -SWITCH_SIZE),
            Pin(range(padding, padding + 1), SWITCH, SWITCH_SIZE),
        ),
        "talker.text_projection.linear_fc1.weight": _column(SWITCH, SWITCH, 1.0),
        "talker.text_projection.linear_fc2.weight": (
            *_column(MARK, SWITCH, MARK_SIZE / SWITCH_SIZE),
            Pin(MEAN, None, 0.0),
        ),
        "talker.text_projection.linear_fc2.bias": (Pin(MARK, None, 0.0), Pin(MEAN, None, MEAN_OFFSET)),
        # Every id behind the codes belongs to the prompt.
        "talker.model.codec_embedding.weight": (
            quiet,
            Pin(range(codes, talker["vocab_size"]), MARK, -MARK_SIZE),
        ),
    }
    for group in range(talker["num_code_groups"] - 1):
        pins[f"talker.code_predictor.model.codec_embedding.{group}.weight"] = (quiet,)
    return pins


def _layer_pins(talker: dict[str, Any]) -> dict[str, tuple[Pin, ...]]:
    """Pins of the layers and the head: who takes the mean and who reads it."""
    pins: dict[str, tuple[Pin, ...]] = {}
    for index in range(talker["num_hidden_layers"]):
        layer = f"talker.model.layers.{index}"
        pins[f"{layer}.self_attn.o_proj.weight"] = (Pin(MEAN, None, 0.0),)
        pins[f"{layer}.mlp.down_proj.weight"] = (Pin(MEAN, None, 0.0),)
    first, channel = "talker.model.layers.0.self_attn", range(0, 1)
    pins[f"{first}.q_proj.weight"] = (Pin(range(talker["head_dim"]), None, 0.0),)
    pins[f"{first}.v_proj.weight"] = _column(channel, MARK, 1.0)
    pins[f"{first}.o_proj.weight"] = (
        Pin(MEAN, None, 0.0),
        Pin(None, channel, 0.0),
        Pin(MEAN, channel, MEAN_GAIN),
    )
    end = talker["codec_eos_token_id"]
    pins["talker.codec_head.weight"] = (
        Pin(None, CHANNELS, 0.0),  # or the mark would favour the same codes all along
        *_column(range(end, end + 1), MEAN, END_GAIN),
    )
    return pins


def with_durations(specs: Sequence[TensorSpec], config: dict[str, Any]) -> list[TensorSpec]:
    """The main file's tensors with the end of speech wired in, for a top-level config."""
    pins = _input_pins(config) | _layer_pins(config["talker_config"])
    return [replace(spec, fill=replace(spec.fill, pins=pins.get(spec.name, ()))) for spec in specs]
