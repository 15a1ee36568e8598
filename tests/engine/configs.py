"""A checkpoint's configs, parsed, with one key spoilt."""

import copy
from typing import Any

MISSING = object()
STACK = (
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
)


def spoilt(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy in which the key at `path` has another value, or is missing."""
    copied = copy.deepcopy(values)
    *way, last = path.split(".")
    inner = copied
    for key in way:
        inner = inner[key]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return copied
