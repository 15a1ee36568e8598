"""That everything stands on the device it belongs to, shown without a GPU: tensors with a CUDA device and no numbers.

An operation that would mix devices on a card fails here, and so does one that would bring a number to the host. It
needs a torch that was built for CUDA, whose bookkeeping it uses; a card it does not need.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from tests.conftest import Demo
from tests.engine import cuda_double
from tests.engine.sounds import hum
from tts_engine import EngineConfig, kernels, weights
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.manifests import Reference
from tts_engine.networks import codec_state
from tts_engine.prompt import VOICE, Prompt
from tts_engine.runner import Runner
from tts_engine.sampling_values import Sampling
from tts_engine.voice_encoder import VoiceEncoder

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this torch was not built for CUDA")

GPU = torch.device("cuda", 0)
CONFIG = EngineConfig(slots=6, max_text_tokens=40, segment_tokens=20, max_instruct_tokens=8, max_frames=60)
SAMPLING = Sampling(0.9, 50, 1.0, 1.05, 0.9, 50, 1.0, seed=0)
KERNELS = (
    *("norm_rows", "gate_product", "uniform_rows", "choose_codes", "attend_cached", "join_splits"),
    *("sum_codes", "text_rows", "advance_rows", "write_sheet"),
    *("snake", "join_tail", "overlap_halves", "depthwise_norm", "turn_rows"),
)


class Launches:
    """In the place of a kernel: looks at what it is launched with."""

    def __init__(self, name: str, launched: set[str]) -> None:
        self._name, self._launched = name, launched

    def __getitem__(self, grid: tuple[int, ...] | int) -> Callable[..., None]:
        assert min(grid if isinstance(grid, tuple) else (grid,)) > 0, f"{self._name} has nothing to do"
        self._launched.add(self._name)
        return self._look

    def _look(self, *given: object, **constants: object) -> None:
        elsewhere = [one.device for one in given if isinstance(one, Tensor) and one.device != GPU]
        assert not elsewhere, f"{self._name} is given what lies on {elsewhere}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """Tensors without numbers until the test ends; weights are read as such."""
    cuda_double.install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **how: nullcontext())
    monkeypatch.setattr(cuda_double.Graph, "replay", lambda graph: None)
    monkeypatch.setattr(cuda_double.Stream, "synchronize", lambda stream: None, raising=False)
    monkeypatch.setattr(Tensor, "pin_memory", _pinned)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
    # How far a voice's own sound reaches is asked of the device once a voice, off the way of a step.
    monkeypatch.setattr(codec_state, "int", lambda number: 5 if isinstance(number, Tensor) else number, raising=False)
    mode, read = FakeTensorMode(), weights._reader

    def reader(handle: Any, name: str) -> Callable[[], Tensor]:
        def take() -> Tensor:
            with unset_fake_temporarily():
                real = read(handle, name)()
            return mode.from_tensor(real)

        return take

    monkeypatch.setattr(weights, "_reader", reader)
    with mode:
        yield mode


def _pinned(tensor: FakeTensor) -> Tensor:
    tensor.constant = None  # else torch would carry these known numbers to a real card
    return tensor


def stream_launches() -> Any:
    from tts_engine.kernels import stream_launches  # here, for it brings triton, which not every torch has

    return stream_launches


@pytest.fixture(params=["operations", "kernels"])
def launched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The kernels that were launched; none where torch's own operations serve."""
    names: set[str] = set()
    if request.param == "kernels" and find_spec("triton") is None:
        pytest.skip("triton is not installed")
    kernels.choose(on=request.param == "kernels")
    for name in KERNELS if request.param == "kernels" else ():
        home = next(home for home in (kernels.chosen(), stream_launches()) if hasattr(home, name))
        monkeypatch.setattr(home, name, Launches(name, names))
    yield names
    kernels.choose(on=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["base", "custom_voice"])
@pytest.mark.parametrize("size", ["0b6", "1b7"])
def test_nothing_mixes_devices(
    demo: Demo, size: str, kind: str, dtype: torch.dtype, launched: set[str], fake: FakeTensorMode
) -> None:
    with unset_fake_temporarily():
        files = Checkpoint.read(demo(model_type=kind, size=size))
    networks = load_networks(files, GPU, dtype)
    runner = Runner(networks, files.model, CONFIG, GPU, dtype)
    pad = files.model.ids.codec_pad
    newcomers = [(Prompt((5,) * length, (pad,) * length, 8, (7, 8, 9), True), None) for length in (10, 13, 11)]
    for slot, read in enumerate([*runner.prepare_many(newcomers), runner.prepare(*newcomers[0])]):
        runner.enter(slot, read, replace(SAMPLING, seed=slot))
    runner.extend(1, 3, [5, 6, 7], complete=True)
    runner.move(1, 0, 12, 3)
    runner.unpark(2, runner.park(1, 12, 3), 12, 3)
    assert runner.launch(3, 20, {1}).pcm.device.type == "cpu"
    if networks.voices is not None:
        encoder = VoiceEncoder(networks.voices, GPU, capacity=0, max_waiting=8)
        encoder.warm_up()
        for text in ("Some words.", None):
            voice = encoder._encode(Reference.of(hum(2.0), 24_000, text))
            runner.enter(4, runner.prepare(Prompt((5,) * 12, (VOICE,) + (pad,) * 11, 4, (), True), voice), SAMPLING)
    assert launched in (set(), set(KERNELS))


def test_the_means_of_this_test_find_what_they_look_for(fake: FakeTensorMode) -> None:
    here, there = torch.zeros(2), torch.zeros(2, device=GPU)
    with pytest.raises(RuntimeError, match="two different devices"):
        here + there
    with pytest.raises(Exception, match="_local_scalar_dense"):
        int(there[0])
