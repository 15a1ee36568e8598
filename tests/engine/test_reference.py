"""The engine says, code for code, what the plain statement of its arithmetic says."""

import numpy as np
import pytest
import torch

from tests.conftest import Demo, Figure
from tests.engine.conftest import VOICES, LoadEngine
from tests.engine.fakes import Listener
from tests.engine.reference import Speaker
from tts_engine import EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.preparation import Preparation
from tts_engine.voices import VoiceBook, read_manifests

CONFIG = EngineConfig(slots=2, max_waiting=2, max_text_tokens=64, max_instruct_tokens=32, max_frames=60)
REQUESTS = {
    "sampled": Speak(text="Hi", seed=3, max_frames=12),
    "to its end": Speak(text="A", seed=4, max_frames=40, text_placement="stream"),
    "wild": Speak(
        text="你好",
        voice="dylan",
        seed=2**64 - 5,
        temperature=1.7,
        top_k=0,
        top_p=0.9,
        repetition_penalty=1.6,
        predictor_temperature=2.0,
        predictor_top_k=0,
        predictor_top_p=0.95,
        max_frames=12,
    ),
    "greedy": Speak(
        text="Hello", instruct="Calm.", language="de", temperature=0, max_frames=12, text_placement="stream"
    ),
}


@pytest.mark.parametrize("size", ["0b6", "1b7"])
@pytest.mark.parametrize("name", REQUESTS)
def test_the_engine_says_what_the_plain_arithmetic_says(
    demo: Demo, load_engine: LoadEngine, size: str, name: str, figure: Figure
) -> None:
    speak, listener = REQUESTS[name], Listener()
    load_engine(CONFIG, size=size, dtype="float64").submit(speak, listener)
    assert listener.outcome.error is None

    checkpoint = Checkpoint.read(demo(size=size))
    networks = load_networks(checkpoint, torch.device("cpu"), torch.float64)
    book = VoiceBook(checkpoint.model, read_manifests(VOICES), CONFIG.default_voice)
    asked = Preparation(checkpoint, CONFIG, book).prepare(speak, listener)
    codes = Speaker(checkpoint, networks, asked.prompt, asked.sampling).speak(asked.max_frames)

    assert np.array_equal(listener.codes, codes)
    whole = networks.codec.decode(torch.tensor(codes).T[None], networks.codec.allocate(1, len(codes)))[0]
    assert np.allclose(np.concatenate(listener.pcm), whole.numpy() * 32_767, rtol=0, atol=1)
    figure(f"engine == plain arithmetic, {size}, {name}", f"{len(codes)} frames, {listener.outcome.reason}")
