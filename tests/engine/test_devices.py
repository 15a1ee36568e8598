"""Names of devices and precisions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tts_engine import SettingsError
from tts_engine.devices import cpu_has_bfloat16, device_named, dtype_named

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_auto_is_what_the_machine_and_the_device_are_good_at() -> None:
    assert dtype_named("auto", CPU) == (torch.bfloat16 if cpu_has_bfloat16() else torch.float32)
    assert dtype_named("auto", GPU) == torch.bfloat16
    assert device_named("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64"])
def test_a_precision_goes_by_its_name(name: str) -> None:
    assert dtype_named(name, GPU) == getattr(torch, name)


@pytest.mark.parametrize("name", ["fp32", "float16", ""])
def test_an_unknown_precision_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"dtype must be auto, float32, bfloat16, float64, got '{name}'"):
        dtype_named(name, CPU)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:x", "cpu,cuda"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="device must be auto, cpu, cuda or cuda:N, got"):
        device_named(name)


def test_a_gpu_this_machine_does_not_have_is_refused() -> None:
    with pytest.raises(SettingsError, match="'cuda:99' was asked for, but this machine has"):
        device_named("cuda:99")


@pytest.mark.skipif(not HUGE_PAGES.exists(), reason="this kernel has none")
def test_what_is_made_on_a_cpu_may_lie_in_large_pages() -> None:
    """Whether it does is the kernel's to say: it is asked, where the tensor lies."""
    program = (
        "import torch; from tts_engine.devices import Placement; Placement.named('cpu', 'auto', '1');"
        "weights = torch.ones(1 << 25); print(open('/proc/self/smaps').read())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    sizes = [int(line.split()[1]) for line in made.stdout.splitlines() if line.startswith("Size:")]
    flags = [line.split()[1:] for line in made.stdout.splitlines() if line.startswith("VmFlags:")]
    assert sum(size for size, named in zip(sizes, flags, strict=True) if "hg" in named) >= 128 * 1024, "kB"
