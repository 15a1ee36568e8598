"""The engine says, code for code, what the plain statement of its arithmetic says."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.conftest import Demo, Figure
from tests.engine.conftest import VOICES, LoadEngine
from tests.engine.fakes import Listener
from tests.engine.reference import Speaker
from tts_engine import SAMPLES_PER_FRAME, EngineConfig, Speak
from tts_engine.audio import mel_spectrogram
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.manifests import Reference
from tts_engine.preparation import Preparation
from tts_engine.voice_encoder import EncodedVoice
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import VoiceBook

CONFIG = EngineConfig(slots=2, max_waiting=2, max_text_tokens=64, max_instruct_tokens=100, max_frames=60)
RECORDING = np.random.default_rng(5).uniform(-0.4, 0.4, 30_000).astype(np.float32)
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
CLONED = Speak(text="Hi there, you", seed=6, max_frames=12, reference_audio=RECORDING, reference_sample_rate=24_000)
CLONES = {
    "by its sound": CLONED,
    "by its sound, prefilled": replace(CLONED, text_placement="prefill"),
    "in context, text shorter": replace(CLONED, text="Hi there", reference_text="Yes"),
    "in context, text longer": replace(CLONED, reference_text="Good evening."),
    "in context, prefilled": replace(CLONED, reference_text="Good evening.", text_placement="prefill"),
}


@dataclass
class Scene:
    """An engine's utterance and what is needed to say it again."""

    checkpoint: Checkpoint
    networks: Networks
    speak: Speak
    listener: Listener

    def said_plainly(self, voice: EncodedVoice | None) -> npt.NDArray[np.int64]:
        book = VoiceBook(self.checkpoint.model, VoiceLibrary(VOICES), CONFIG.default_voice)
        preparation = Preparation(self.checkpoint, CONFIG, book)
        asked, _ = preparation.prepare(self.speak, self.listener)
        (segment,) = asked.script.segments
        prompt = preparation.prompts.fill(asked.template, segment.ids)
        return Speaker(self.checkpoint, self.networks, prompt, asked.sampling, voice).speak(asked.max_frames)

    def sound_of(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        state = self.networks.codec.allocate(1, len(codes))
        sound = self.networks.codec.decode(torch.tensor(codes).T[None], state, torch.zeros(1, dtype=torch.int64))[0]
        return np.asarray(sound.numpy() * 32_767)


@pytest.fixture
def play(demo: Demo, load_engine: LoadEngine) -> Callable[..., Scene]:
    """Speaks a request on an engine in double precision: play(speak, model_type=…, size=…)."""

    def speak_on(speak: Speak, **kind: str) -> Scene:
        listener, checkpoint = Listener(), Checkpoint.read(demo(**kind))
        load_engine(CONFIG, dtype="float64", **kind).submit(speak, listener)
        assert listener.outcome.error is None
        return Scene(checkpoint, load_networks(checkpoint, torch.device("cpu"), torch.float64), speak, listener)

    return speak_on


@pytest.mark.parametrize("size", ["0b6", "1b7"])
@pytest.mark.parametrize("name", REQUESTS)
def test_the_engine_says_what_the_plain_arithmetic_says(
    play: Callable[..., Scene], size: str, name: str, figure: Figure
) -> None:
    scene = play(REQUESTS[name], size=size)
    codes = scene.said_plainly(voice=None)
    assert np.array_equal(scene.listener.codes, codes)
    assert np.allclose(np.concatenate(scene.listener.pcm), scene.sound_of(codes), rtol=0, atol=1)
    figure(f"engine == plain arithmetic, {size}, {name}", f"{len(codes)} frames, {scene.listener.outcome.reason}")


@pytest.mark.parametrize("size", ["0b6", "1b7"])
@pytest.mark.parametrize("name", CLONES)
def test_a_clone_says_what_the_plain_arithmetic_says(
    play: Callable[..., Scene], size: str, name: str, figure: Figure
) -> None:
    speak = CLONES[name]
    scene = play(speak, model_type="base", size=size)
    voice, lead = encoded(scene.networks, speak.reference_text), 0
    codes = scene.said_plainly(voice)
    assert np.array_equal(scene.listener.codes, codes)
    whole = codes
    if voice.codes is not None:  # the sound goes on from that of the recording
        whole, lead = np.concatenate((voice.codes.numpy(), codes)), len(voice.codes) * SAMPLES_PER_FRAME
    assert np.allclose(np.concatenate(scene.listener.pcm), scene.sound_of(whole)[lead:], rtol=0, atol=1)
    figure(f"clone == plain arithmetic, {size}, {name}", f"{len(codes)} frames, {scene.listener.outcome.reason}")


@torch.inference_mode()
def encoded(networks: Networks, text: str | None) -> EncodedVoice:
    """The recording as the networks encode it when nothing is kept and no thread is involved."""
    assert networks.voices is not None
    reference = Reference.of(RECORDING, 24_000, text)
    samples = torch.from_numpy(reference.samples).to(torch.float64)
    vector = networks.voices.speaker_encoder.embed(mel_spectrogram(samples))
    codes = networks.voices.codec_encoder.encode(samples) if text else None
    return EncodedVoice("", vector, codes, None)
