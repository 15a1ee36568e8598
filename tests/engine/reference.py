"""The engine's arithmetic a second time, as plainly as it can be said: no cache, no batch, no tensors where numbers do.

For tests to compare with. It uses the engine's weights and single layers, but none of its state.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tts_engine.checkpoint import Checkpoint, Networks
from tts_engine.config import CODEBOOKS
from tts_engine.kv_cache import KeyValueCache
from tts_engine.model_config import TransformerConfig
from tts_engine.networks.layers import DecoderStack, rotary_table
from tts_engine.prompt import NOTHING, REFERENCE, VOICE, Prompt
from tts_engine.sampling_values import Sampling
from tts_engine.voice_encoder import EncodedVoice


def philox_in_whole_numbers(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """The generator in Python's unbounded integers."""
    a, b, c, d = counter
    low, high = key
    for _ in range(10):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (
            (second >> 32) ^ b ^ low,
            second & 0xFFFFFFFF,
            (first >> 32) ^ d ^ high,
            first & 0xFFFFFFFF,
        )
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def uniform_of(seed: int, frame: int, codebook: int) -> float:
    """The number drawn for one code."""
    words = philox_in_whole_numbers((codebook // 4, frame, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))
    return (words[codebook % 4] >> 8) / 2**24


def one_choice(scores: list[float], temperature: float, top_k: int, top_p: float, uniform: float) -> int:
    """Temperature, top-k with its ties, top-p, and the inverse of the cumulative distribution, step by step."""
    if temperature == 0:
        return int(np.argmax(scores))
    logits = np.array(scores) / temperature
    if top_k:
        kth = np.sort(logits)[::-1][min(top_k, len(logits)) - 1]
        logits[logits < kth] = -np.inf
    ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    kept: list[int] = []
    for i in ranked:
        if weights[i] > 0 and (not kept or top_p >= 1 or weights[kept].sum() < top_p):
            kept.append(i)
    mass, before = weights[kept].sum(), 0.0
    for i in kept:
        before += weights[i] / mass
        if uniform < before:
            return i
    return kept[-1]


@dataclass
class Speaker:
    """Says one prompt, reading everything anew for each frame."""

    checkpoint: Checkpoint
    networks: Networks
    prompt: Prompt
    sampling: Sampling
    voice: EncodedVoice | None = None
    said: list[list[int]] = field(default_factory=list)

    @torch.inference_mode()
    def speak(self, most: int) -> npt.NDArray[np.int64]:
        """Up to `most` frames of codes, (T, 16)."""
        inputs = self._prompt_inputs()
        while len(self.said) < most:
            hidden = whole_pass(self.networks.talker.stack, inputs)[-1]
            first = self._first(self.networks.talker.head(hidden).tolist())
            if first == self.checkpoint.model.ids.codec_eos:
                break
            self.said.append(self._frame(hidden, first))
            inputs = torch.cat((inputs, self._next_input()[None]))
        return np.array(self.said, dtype=np.int64).reshape(-1, CODEBOOKS)

    def _prompt_inputs(self) -> Tensor:
        rows, recorded = [], iter(() if self.voice is None or self.voice.codes is None else self.voice.codes.tolist())
        for text, codec in zip(self.prompt.text_ids, self.prompt.codec_ids, strict=True):
            row = torch.zeros(self.checkpoint.model.talker.hidden, dtype=torch.float64)
            if text != NOTHING:
                row = row + self._text(text)
            if codec == VOICE:
                assert self.voice is not None
                row = row + self.voice.vector
            elif codec == REFERENCE:
                row = row + self._codes(next(recorded))
            elif codec != NOTHING:
                row = row + self.networks.talker.codec_embedding[codec]
            rows.append(row)
        assert next(recorded, None) is None, "the whole recording is read"
        return torch.stack(rows)

    def _text(self, token: int) -> Tensor:
        return self.networks.talker.embed_text(torch.tensor(token))

    def _next_input(self) -> Tensor:
        codes, frame = self.said[-1], len(self.said) - 1
        trailing = self.prompt.trailing_ids
        total = self._text(trailing[frame] if frame < len(trailing) else self.checkpoint.model.ids.tts_pad)
        return total + self._codes(codes)

    def _codes(self, codes: list[int]) -> Tensor:
        total = self.networks.talker.codec_embedding[codes[0]]
        for book in range(1, CODEBOOKS):
            total = total + self.networks.predictor.embeddings[book - 1, codes[book]]
        return total

    def _first(self, scores: list[float]) -> int:
        model, rules = self.checkpoint.model, self.sampling
        for code in {frame[0] for frame in self.said}:
            penalty = float(np.float32(rules.repetition_penalty))
            scores[code] = scores[code] * penalty if scores[code] < 0 else scores[code] / penalty
        for code in range(model.vocab - 1024, model.vocab):
            if code != model.ids.codec_eos or len(self.said) < 2:
                scores[code] = -np.inf
        return self._choice(scores, (rules.temperature, rules.top_k, rules.top_p), 0)

    def _choice(self, scores: list[float], rules: tuple[float, int, float], codebook: int) -> int:
        temperature, top_k, top_p = rules
        number = uniform_of(self.sampling.seed, len(self.said), codebook)
        return one_choice(scores, float(np.float32(temperature)), top_k, float(np.float32(top_p)), number)

    def _frame(self, hidden: Tensor, first: int) -> list[int]:
        predictor, codes, rules = self.networks.predictor, [first], self.sampling
        inputs = [hidden, self.networks.talker.codec_embedding[first]]
        for book in range(1, CODEBOOKS):
            last = whole_pass(predictor.stack, torch.stack([predictor.project(row) for row in inputs]))[-1]
            scores = predictor.heads[book - 1](last).tolist()
            wanted = (rules.predictor_temperature, rules.predictor_top_k, rules.predictor_top_p)
            codes.append(self._choice(scores, wanted, book))
            inputs.append(predictor.embeddings[book - 1, codes[-1]])
        return codes


def whole_pass(stack: DecoderStack, inputs: Tensor) -> Tensor:
    """Hidden states (T, D) of all inputs (T, D), read at once into a cache made for them."""
    tokens, config = inputs.shape[0], stack.config
    rotary = rotary_table(tokens, config.head_dim, config.rope_theta, inputs.device, inputs.dtype)
    view = empty_cache(config, 1, tokens, inputs.dtype).span(slice(0, 1), 0)
    mask = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    return stack.forward(inputs[None], rotary.span(0, tokens), view, mask)[0]


def empty_cache(config: TransformerConfig, slots: int, length: int, dtype: torch.dtype) -> KeyValueCache:
    """A cache for one stack on the CPU."""
    return KeyValueCache(
        layers=config.layers,
        slots=slots,
        kv_heads=config.kv_heads,
        length=length,
        head_dim=config.head_dim,
        device=torch.device("cpu"),
        dtype=dtype,
    )
