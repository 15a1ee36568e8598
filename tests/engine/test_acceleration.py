"""How the device computes: the two switches, and what is said when they cannot be had."""

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from tts_engine import Acceleration, LoadError, SettingsError, acceleration, kernels

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    plans = torch.backends.cuda.cudnn_sdp_enabled()
    yield
    kernels.choose(on=False)
    torch.backends.cuda.enable_cudnn_sdp(plans)
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


def precisions() -> tuple[str, str]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.mark.parametrize("word", ["auto", "off"])
def test_a_cpu_has_no_kernels(word: str) -> None:
    Acceleration(kernels=word).choose(CPU, torch.float32)
    assert kernels.chosen() is None


@pytest.mark.parametrize(("device", "dtype"), [(CPU, torch.float32), (GPU, torch.float64)])
def test_kernels_where_there_are_none_are_refused(device: torch.device, dtype: torch.dtype) -> None:
    with pytest.raises(SettingsError, match=f"kernels need a GPU and float32 or bfloat16, not {device} and {dtype}"):
        Acceleration(kernels="on").choose(device, dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the kernels run")
@pytest.mark.parametrize("word", ["auto", "on"])
def test_kernels_that_do_not_run_stop_the_load_and_name_the_switch(word: str) -> None:
    with pytest.raises(LoadError, match=r"the kernels do not run on cuda:0: .*\. QWEN3_TTS_KERNELS=off serves"):
        Acceleration(kernels=word).choose(GPU, torch.bfloat16)
    assert kernels.chosen() is None


@pytest.mark.parametrize(("off", "fits"), [(0.0, True), (1e-6, True), (-1e-3, False), (float("nan"), False)])
def test_a_first_kernel_may_be_off_by_its_last_bits_and_no_more(
    off: float, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(kernels, "_chosen", SimpleNamespace(rms_norm=lambda x, weight, eps: x + off))
    with nullcontext() if fits else pytest.raises(RuntimeError, match="a norm of ones was off by"):
        acceleration._try_one(CPU, torch.float32)


def test_no_prompt_waits_for_a_plan_that_is_made_for_its_length() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    Acceleration(kernels="off").choose(GPU, torch.bfloat16)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_kernels_that_are_off_are_not_tried() -> None:
    Acceleration(kernels="off").choose(GPU, torch.bfloat16)
    assert kernels.chosen() is None


@pytest.mark.parametrize(
    ("word", "dtype", "expected"),
    [
        ("auto", torch.bfloat16, "tf32"),
        ("auto", torch.float32, "ieee"),
        ("on", torch.float32, "tf32"),
        ("off", torch.bfloat16, "ieee"),
    ],
)
def test_float32_is_multiplied_as_precisely_as_was_asked(word: str, dtype: torch.dtype, expected: str) -> None:
    Acceleration(kernels="off", tf32=word).choose(GPU, dtype)
    assert precisions() == (expected, expected)


@pytest.mark.parametrize("name", ["kernels", "tf32"])
@pytest.mark.parametrize("word", ["", "yes", "ON"])
def test_an_unknown_word_is_refused(name: str, word: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be auto, on, off, got '{word}'"):
        Acceleration(**{name: word}).choose(CPU, torch.float32)
