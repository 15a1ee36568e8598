"""The networks in the released dimensions without their numbers: tensors that have a shape and take no memory."""

import torch

from commands.demo_codec_config import codec_config
from commands.demo_codec_layout import codec_tensors
from commands.demo_config import checkpoint_config
from commands.demo_layout import TensorSpec, main_tensors
from commands.demo_tokenizer import demo_tokenizer
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
    """Configs and networks of a checkpoint; the voice encoders are left out."""

    def __init__(self, size: str, model_type: str = "custom_voice") -> None:
        values = checkpoint_config(model_type, size, True, demo_tokenizer(True).named_ids, None)
        values["talker_config"]["text_vocab_size"] = _WORDS
        self.model = ModelConfig.read(values)
        weights = _empty(main_tensors(values)).cast(torch.bfloat16)
        talker = Talker.load(weights, self.model)
        predictor = CodePredictor.load(weights, self.model, talker.codec_embedding)
        codec = codec_config(True)
        decoder = CodecDecoder.load(_empty(codec_tensors(codec, 1.0)), CodecConfig.read(codec))
        self.networks = Networks(talker, predictor, decoder, None)


def _empty(specs: list[TensorSpec]) -> Weights:
    return Weights({spec.name: lambda shape=spec.shape: torch.empty(shape, device=META) for spec in specs}, META)
