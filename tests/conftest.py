"""What every part of the suite shares: workers, tiny checkpoints made once, figures printed at the end of a run.

Knows no engine and no server; each folder's own conftest makes those.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

Demo = Callable[..., Path]
Figure = Callable[[str, object], None]
Contract = Any
"""config.pbtxt as Triton's own message, whose classes are made while running."""

_FIGURES = pytest.StashKey[list[str]]()

# Runs share their cores with servers, so a slow example says nothing about the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share a run out our own way where it is to be shared by files, as the whole suite is."""
    if config.getoption("dist") != "loadfile":
        return None
    # Here, since a run without workers needs no package for them.
    from tests.sharing_out import StackApart

    return StackApart(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _is_worker(config):  # what takes longest comes first; a run without workers keeps its order
        items.sort(key=lambda item: not item.nodeid.startswith("tests/stack/"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a card where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    # Here, since it brings torch, which the frontend's tests neither need nor should wait for.
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has measured."""
    node.config.stash[_FIGURES].extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_worker(session.config):
        session.config.workeroutput["figures"] = session.config.stash[_FIGURES]  # type: ignore[attr-defined]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what tests measured, passed or not."""
    if config.stash[_FIGURES]:
        terminalreporter.section("figures")
        for line in config.stash[_FIGURES]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Figure:
    """Notes a measured value, to be printed when the run ends."""
    return lambda name, value: pytestconfig.stash[_FIGURES].append(f"{name}: {value}")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Makes tiny checkpoints, each kind once: demo(model_type=…, size=…, seed=…) is its folder. Do not change it."""
    # Here, since it brings torch, which the frontend's tests neither need nor should wait for.
    from commands.demo_checkpoint import write_demo_checkpoint

    made: dict[tuple[str, str, int], Path] = {}

    def make(model_type: str = "custom_voice", size: str = "0b6", seed: int = 0) -> Path:
        key = (model_type, size, seed)
        if key not in made:
            folder = tmp_path_factory.mktemp("checkpoint") / f"{model_type}-{size}-{seed}"
            made[key] = write_demo_checkpoint(folder, model_type=model_type, size=size, seed=seed)
        return made[key]

    return make


@pytest.fixture(scope="session")
def contract() -> Contract:
    """config.pbtxt, parsed as Triton parses it: an unknown field or a wrong value is an error."""
    from google.protobuf import text_format  # type: ignore[import-untyped]
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    path = REPOSITORY / "model_repository" / "qwen3_tts" / "config.pbtxt"
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
