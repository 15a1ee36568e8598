"""Packed == alone: prompts read together in one pass give what each gives when it is read by itself."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Demo
from tests.engine.fakes import PATIENCE_S, Listener
from tests.engine.sounds import hum
from tts_engine import EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.memory import PACK_POSITIONS
from tts_engine.preparation import Preparation
from tts_engine.prompt_reading import Newcomer
from tts_engine.runner import Runner
from tts_engine.sampling_values import Sampling
from tts_engine.voice_encoder import VoiceEncoder
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import VoiceBook

CPU = torch.device("cpu")
CONFIG = EngineConfig(slots=4, max_text_tokens=160, max_instruct_tokens=32, max_frames=60)
FRAMES = 6
CAST = (
    Speak(text="Hello there", seed=1, text_placement="prefill"),
    Speak(text="Good morning to you, and to all of yours", seed=2, reference_text="Good evening."),
    Speak(text="Hi", seed=3, reference_text="One, two.", text_placement="prefill"),
    Speak(text="Hi!", seed=4),
    Speak(text="Another text", seed=5, reference_text="Good evening."),
    Speak(text="And a longer one, which takes its time", seed=6, text_placement="prefill"),
)


@dataclass(frozen=True)
class Readers:
    """Newcomers of every kind, and runners to read them."""

    files: Checkpoint
    networks: Networks
    newcomers: tuple[tuple[Newcomer, Sampling], ...]

    def runner(self, prefix_cache_mb: int = 64) -> Runner:
        config = replace(CONFIG, prefix_cache_mb=prefix_cache_mb)
        return Runner(self.networks, self.files.model, config, CPU, torch.float64)


@pytest.fixture(scope="module", params=["0b6", "1b7"])
def readers(request: pytest.FixtureRequest, demo: Demo) -> Iterator[Readers]:
    files = Checkpoint.read(demo(model_type="base", size=request.param))
    networks = load_networks(files, CPU, torch.float64)
    assert networks.voices is not None
    encoder = VoiceEncoder(networks.voices, CPU, capacity=2**30, max_waiting=8)
    preparation = Preparation(files, CONFIG, VoiceBook(files.model, VoiceLibrary(None), ""))
    newcomers = []
    for speak in CAST:
        recorded = replace(speak, reference_audio=hum(1.5, speak.seed or 0), reference_sample_rate=24_000)
        asked, voice = preparation.prepare(recorded, Listener())
        assert voice.reference is not None
        prompt = preparation.prompts.fill(asked.template, asked.script.segments[0].ids)
        newcomers.append(((prompt, encoder.encode(voice.reference).result(PATIENCE_S)), asked.sampling))
    yield Readers(files, networks, tuple(newcomers))
    encoder.close()


@given(chosen=st.lists(st.integers(0, len(CAST) - 1), min_size=1, max_size=4))
@settings(max_examples=10)
def test_prompts_read_together_say_what_each_says_alone(readers: Readers, chosen: list[int]) -> None:
    together = readers.runner()
    newcomers = [readers.newcomers[who] for who in chosen]
    packed = together.prepare_many([newcomer for newcomer, _ in newcomers])
    for slot, (read, (_, sampling)) in enumerate(zip(packed, newcomers, strict=True)):
        together.enter(slot, read, sampling)
    rows = len(chosen)
    longest = max(read.length for read in packed)
    frames = [together.launch(rows, longest + number, ()).land() for number in range(FRAMES)]
    for slot, (newcomer, sampling) in enumerate(newcomers):
        alone = readers.runner()
        read = alone.prepare(*newcomer)
        alone.enter(0, read, sampling)
        assert (read.length, read.trailing, read.text) == (
            packed[slot].length,
            packed[slot].trailing,
            packed[slot].text,
        )
        for number, frame in enumerate(frames):
            expected = alone.launch(1, read.length + number, ()).land()
            assert np.array_equal(frame.codes[slot], expected.codes[0])


@pytest.mark.parametrize("prefix_cache_mb", [64, 0])
def test_a_beginning_that_newcomers_share_is_read_once(readers: Readers, prefix_cache_mb: int) -> None:
    runner = readers.runner(prefix_cache_mb)
    newcomer = readers.newcomers[0][0]
    alone = readers.runner().prepare(*newcomer)
    for read in runner.prepare_many([newcomer] * 3):
        assert torch.allclose(read.cache.keys, alone.cache.keys, rtol=0, atol=1e-9)
    assert (runner.prefixes.hits, runner.prefixes.misses) == (0, 1)
    runner.prepare_many([newcomer] * 2)
    assert runner.prefixes.hits == (1 if prefix_cache_mb else 0)


def test_those_read_together_share_one_storage_and_no_place_of_it(readers: Readers) -> None:
    packed = readers.runner().prepare_many([newcomer for newcomer, _ in readers.newcomers[:3]])
    starts = [read.cache.keys.storage_offset() for read in packed]
    assert len({read.cache.keys.untyped_storage().data_ptr() for read in packed}) == 1
    width = readers.files.model.talker.head_dim
    assert starts == [width * sum(read.length for read in packed[:number]) for number in range(3)]


def test_a_crowd_is_read_in_packs_of_bounded_size(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    newcomer = readers.newcomers[1][0]
    length = len(newcomer[0].text_ids)
    monkeypatch.setattr("tts_engine.prompt_reading.PACK_POSITIONS", 2 * length + 1)
    packed = readers.runner().prepare_many([newcomer] * 5)
    sizes = [read.cache.keys.untyped_storage().nbytes() for read in packed]
    assert sizes == [2 * sizes[-1]] * 4 + sizes[-1:]
    assert EngineConfig().max_prompt_length <= PACK_POSITIONS
