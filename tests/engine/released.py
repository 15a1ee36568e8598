"""The networks in the released dimensions: of tensors that have a shape and take no memory, or of random numbers."""

from functools import partial

import torch
from torch import Tensor

from commands.demo_checkpoint import OUTPUT_GAIN
from commands.demo_codec_config import codec_config
from commands.demo_codec_layout import codec_tensors
from commands.demo_config import checkpoint_config
from commands.demo_layout import TensorSpec, main_tensors
from commands.demo_tokenizer import demo_tokenizer
from commands.demo_weights import drawn_blocks
from tts_engine.checkpoint import Networks
from tts_engine.codec_config import CodecConfig
from tts_engine.model_config import ModelConfig
from tts_engine.networks.code_predictor import CodePredictor
from tts_engine.networks.codec_decoder import CodecDecoder
from tts_engine.networks.talker import Talker
from tts_engine.weights import Weights

META = torch.device("meta")
_WORDS = 151_936  # of the released vocabulary; a demo's tokenizer knows fewer


class Released:
    """Configs and networks of a checkpoint; the voice encoders are left out. dtype: of talker and predictor."""

    def __init__(
        self,
        size: str,
        model_type: str = "custom_voice",
        device: torch.device = META,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        values = checkpoint_config(model_type, size, True, demo_tokenizer(True).named_ids, None)
        values["talker_config"]["text_vocab_size"] = _WORDS
        self.model = ModelConfig.read(values)
        weights = _weights(main_tensors(values), device).cast(dtype)
        talker = Talker.load(weights, self.model)
        predictor = CodePredictor.load(weights, self.model, talker.codec_embedding)
        codec = codec_config(True)
        decoder = CodecDecoder.load(_weights(codec_tensors(codec, OUTPUT_GAIN), device), CodecConfig.read(codec))
        self.networks = Networks(talker, predictor, decoder, None)


def _weights(specs: list[TensorSpec], device: torch.device) -> Weights:
    def tensor(spec: TensorSpec) -> Tensor:
        if device == META:
            return torch.empty(spec.shape, device=META)
        return torch.cat(tuple(drawn_blocks(spec, seed=0, device=device.type)))

    return Weights({spec.name: partial(tensor, spec) for spec in specs}, device)
