"""What is run on a GPU, in which order, what each part needs and which share of the time is its own."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peer_process import PeerFailed, interpreter

RATES = "1,2,4,8,10,12,16,20,24,32,40"
CHECKPOINT, CARD, PLAIN = "checkpoint-0.6b", "card", "engine-0.6b-plain"
# From the plainest on: what is shared out begins in this order.
GPU_TESTS = ("tests/benchmarks/test_gpu_card.py", "tests/engine/test_gpu_released.py", "tests/engine/test_gpu.py")
# Of these the benchmarks need so little that a stand-in (benchmarks/absent) will do.
DISPENSABLE = ("sentencex", "soundfile", "soxr")
_ENGINE = ("torch", "numpy", "safetensors", "tokenizers")
# Tests spend their time compiling kernels, which several processes do at once.
_TEST_PROCESSES = 6
# One that hangs on a card would otherwise take the time of all others.
_TEST_LIMIT_S = 100
# Packages whose import name is not what they are installed by.
_INSTALLED_AS = {"pytriton": "nvidia-pytriton", "grpc": "grpcio", "pytest_asyncio": "pytest-asyncio"}
_TRITON = ("tritonclient", "grpc", "pytriton")
_FRONTEND = ("quart", "hypercorn", "pydantic_settings", "prometheus_client", "av", "websockets")


@dataclass(frozen=True)
class Part:
    """A module to run, the packages it cannot do without, and its share of the time. remark: what it goes without."""

    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    share: float
    remark: str | None = None


def parts(options: argparse.Namespace, kept: Path) -> Iterator[Part]:
    """The parts in the order of what is wanted most. kept: where they leave random checkpoints to each other."""
    device, out = str(options.device), str(options.out)
    smoke = ("--smoke",) if options.smoke else ()
    small, large = (_model(size, options, kept) for size in ("0.6b", "1.7b"))
    common = ("--device", device, "--out", out)
    if not options.smoke and not (kept / "random-0.6b" / "config.json").is_file():
        made = ("commands.demo_checkpoint", str(kept / "random-0.6b"), "--size", "0b6", "--full-size")
        yield Part(CHECKPOINT, made, _ENGINE, 45)
    # First what all others stand on; it says whether they may use our kernels.
    yield Part(CARD, ("benchmarks.gpu_card", *small, *common), _ENGINE, 45)
    yield Part("tests", _tests(on_gpu=device.startswith("cuda")), (*_ENGINE, "pytest", "hypothesis"), 150)
    quick = smoke or ("--quick",)
    yield Part("engine-0.6b", ("benchmarks.engine", *small, *common, *quick), _ENGINE, 110)
    yield Part("engine-1.7b", ("benchmarks.engine", *large, *common, *quick), _ENGINE, 110)
    brief = smoke or ("--dtypes", "bfloat16", "--frames", "25", "--repeats", "3")
    yield Part("peers", ("benchmarks.peers", *small, *common, *brief), _ENGINE, 60, _official_missing())
    doors = _doors()
    serving = ("benchmarks.serving", "--model", _served(options, kept), *common, "--doors", ",".join(doors))
    few = smoke or ("--quick", "--batches", "1,8,64")
    load = smoke or ("--rates", RATES, "--seconds", f"{options.seconds:g}", "--dtype", "bfloat16")
    yield Part("serving", (*serving, *load), ("benchmarks.serving", *_ENGINE), 150, _closed_doors(doors))
    # Last: what the kernels are worth, and figures even where they do not run.
    plain = (*small, *common, *few, "--kernels", "off")
    yield Part(PLAIN, ("benchmarks.engine", *plain), _ENGINE, 50)


def _tests(*, on_gpu: bool) -> tuple[str, ...]:
    """Those that need a GPU, or a few that need none to try this script."""
    told = ("-v", "-rf", "--tb=short", "--disable-warnings", "-p", "no:cacheprovider")
    if not on_gpu:
        return ("pytest", *told, "tests/engine/test_devices.py")
    shared_out = ("-n", str(_TEST_PROCESSES)) if is_there("xdist") else ()
    one_by_one = ("--timeout", str(_TEST_LIMIT_S)) if is_there("pytest_timeout") else ()
    return ("pytest", *told, *shared_out, *one_by_one, "-m", "gpu", *GPU_TESTS)


def missing(part: Part) -> list[str]:
    """What a part needs and is not here, by the names it is installed by."""
    return [_INSTALLED_AS.get(name, name) for name in part.needs if not is_there(name)]


def _model(size: str, options: argparse.Namespace, kept: Path) -> tuple[str, ...]:
    return () if options.smoke else ("--full-size", size, "--checkpoints", str(kept))


def _served(options: argparse.Namespace, kept: Path) -> str:
    """The checkpoint to serve."""
    return "demo" if options.smoke else str(kept / "random-0.6b")


def is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _doors() -> list[str]:
    """The doors whose packages are here."""
    doors = ["engine"]
    if all(map(is_there, _TRITON)):
        doors.append("triton")
        if all(map(is_there, _FRONTEND)):
            doors.append("websocket")
    return doors


def _closed_doors(doors: Sequence[str]) -> str | None:
    lacking = [_INSTALLED_AS.get(name, name) for name in (*_TRITON, *_FRONTEND) if not is_there(name)]
    return f"only {', '.join(doors)}; not installed: {', '.join(lacking)}" if lacking else None


def _official_missing() -> str | None:
    try:
        interpreter("official")
    except PeerFailed as error:
        return str(error)
    return None
