"""Asks the device what is free, and settles how many slots there shall be."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from .config import EngineConfig
from .memory import CPU_SLOTS, Budget, fit_slots, in_words, set_apart, slot_memory
from .model_config import ModelConfig
from .networks.codec_decoder import CodecDecoder

log = logging.getLogger(__name__)


def with_slots(
    config: EngineConfig, model: ModelConfig, codec: CodecDecoder, device: torch.device, dtype: torch.dtype
) -> EngineConfig:
    """The config with a number of slots that the device can hold beside the weights it has loaded.

    Raises LoadError when it cannot hold those asked for, or not one.
    """
    if device.type != "cuda":
        return replace(config, slots=config.slots or min(CPU_SLOTS, config.max_slots))
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    budget = Budget(free, set_apart(model, config, width=dtype.itemsize))
    slot = slot_memory(model, config, codec=codec.slot_bytes(frames_per_call=1), width=dtype.itemsize)
    slots = fit_slots(config, slot, budget)
    log.info("%s", in_words(config, slot, budget, slots))
    return replace(config, slots=slots)
