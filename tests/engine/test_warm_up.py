"""Before anybody listens, all that serving will ask of a GPU beside its steps has been done once, and left no trace.

On a CPU: which operations those are is the same on every device.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from tests.conftest import Demo
from tests.engine.recording import Recording
from tests.engine.sounds import hum
from tts_engine import EngineConfig
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.manifests import Reference
from tts_engine.prompt import REFERENCE, VOICE, Prompt
from tts_engine.prompt_reading import Newcomer
from tts_engine.runner import Runner
from tts_engine.sampling_values import Sampling
from tts_engine.voice_encoder import EncodedVoice, VoiceEncoder
from tts_engine.warm_up import warm_up

CPU = torch.device("cpu")
CONFIG = EngineConfig(slots=3, max_text_tokens=40, segment_tokens=20, max_instruct_tokens=8, max_frames=60)
SAMPLING = Sampling(0.9, 50, 0.8, 1.05, 0.9, 50, 1.0, seed=2**63 + 5)


@dataclass(frozen=True)
class Stage:
    """A checkpoint, and newcomers of every kind it can speak for."""

    files: Checkpoint
    networks: Networks
    voice: EncodedVoice | None

    def runner(self) -> Runner:
        return Runner(self.networks, self.files.model, CONFIG, CPU, torch.float32)

    def newcomers(self) -> list[Newcomer]:
        pad = self.files.model.ids.codec_pad
        plain: list[Newcomer] = [(Prompt(tuple(range(5, 5 + n)), (pad,) * n, 4, (7, 8)), None) for n in (5, 6, 21)]
        if self.voice is None:
            return plain
        codec = (VOICE, REFERENCE, REFERENCE, pad, REFERENCE, pad)
        return [*plain, (Prompt(tuple(range(5, 11)), codec, 4, (7, 8)), self.voice)]


@pytest.fixture(scope="module", params=["custom_voice", "base"])
def stage(request: pytest.FixtureRequest, demo: Demo) -> Stage:
    files = Checkpoint.read(demo(model_type=request.param))
    networks = load_networks(files, CPU, torch.float32)
    if networks.voices is None:
        return Stage(files, networks, None)
    encoder = VoiceEncoder(networks.voices, CPU, capacity=0, max_waiting=1)
    voice = encoder.encode(Reference.of(hum(2.0), 24_000, "Some words.")).result()
    encoder.close()
    return Stage(files, networks, voice)


def serve(runner: Runner, stage: Stage) -> None:
    """All that may be asked of a runner between two steps."""
    newcomers = stage.newcomers()
    alone, together = [runner.prepare(*newcomer) for newcomer in newcomers], runner.prepare_many(newcomers)
    for slot, read in enumerate((alone[-1], together[0])):
        runner.enter(slot, read, replace(SAMPLING, seed=slot))
        runner.extend(slot, 2, [9, 9, 9], complete=bool(slot))
    runner.unpark(2, runner.park(0, alone[-1].length, 5), alone[-1].length, 5)
    runner.move(2, 0, alone[-1].length, 5)


def recorded(runner: Runner, stage: Stage) -> Recording:
    recording = Recording()
    with recording:
        serve(runner, stage)
    return recording


def test_nothing_is_asked_between_steps_that_was_not_done_at_the_start(stage: Stage) -> None:
    runner, start = stage.runner(), Recording()
    with torch.inference_mode(), start:
        warm_up(runner._reader, runner.state, stage.files.model)
    done = {operation.name for operation in start.operations}
    asked = {operation.name for operation in recorded(runner, stage).operations}
    assert {"embedding", "index_copy_", "scaled_dot_product_attention"} & done, "the recording sees operations"
    assert asked - done == set()


def test_nothing_is_asked_of_the_encoders_that_was_not_done_at_the_start(demo: Demo) -> None:
    networks = load_networks(Checkpoint.read(demo(model_type="base")), CPU, torch.float32)
    assert networks.voices is not None
    encoder = VoiceEncoder(networks.voices, CPU, capacity=1 << 30, max_waiting=1)
    start, asked = Recording(), Recording()
    with start:
        encoder.warm_up()
    for recording in (Reference.of(hum(2.0), 24_000, None), Reference.of(hum(7.3), 24_000, "Some words.")):
        with asked:
            encoder._encode(recording)
    encoder.close()
    assert {"stft", "_fft_r2c"} & {operation.name for operation in start.operations}, "the recording sees operations"
    assert {operation.name for operation in asked.operations} - {
        operation.name for operation in start.operations
    } == set()
    assert not encoder._voices


def test_who_comes_after_it_finds_no_trace_of_it(stage: Stage) -> None:
    warm, cold = stage.runner(), stage.runner()
    with torch.inference_mode():
        warm_up(warm._reader, warm.state, stage.files.model)
    assert warm.prefixes.hits == warm.prefixes.misses == 0
    for runner in (warm, cold):
        serve(runner, stage)
    for number in range(6):
        frames = [runner.launch(2, 40 + number, ()).land() for runner in (warm, cold)]
        assert np.array_equal(frames[0].codes, frames[1].codes)
        assert np.array_equal(frames[0].pcm, frames[1].pcm)


def test_between_steps_no_number_of_the_host_is_copied_to_a_single_place(stage: Stage) -> None:
    """`row[slot] = 5` makes a tensor of 5 on the host, and on a GPU torch copies it while the host waits."""
    operations = recorded(stage.runner(), stage).operations
    made = [operation.outputs[0] for operation in operations if operation.name == "lift_fresh"]
    lone = {tensor.untyped_storage().data_ptr() for tensor in made if tensor.dim() == 0}
    copied = {operation.args[1].untyped_storage().data_ptr() for operation in operations if operation.name == "copy_"}
    assert copied
    assert lone & copied == set()


def test_a_slot_too_short_for_the_longest_prompts_is_warmed_with_those_it_holds(stage: Stage) -> None:
    short = {"max_frames": 1, "segment_tokens": 1, "max_instruct_tokens": 1, "max_reference_text_tokens": 1}
    config = replace(CONFIG, slots=1, **short)
    runner = Runner(stage.networks, stage.files.model, config, CPU, torch.float32)
    assert runner.state.cache.length < 500
    with torch.inference_mode():
        warm_up(runner._reader, runner.state, stage.files.model)
    runner.enter(0, runner.prepare(*stage.newcomers()[0]), SAMPLING)
    assert runner.launch(1, 5, ()).land().codes.shape == (1, 16)
