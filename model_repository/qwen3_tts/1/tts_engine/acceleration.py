"""How the device computes: whether by our kernels, and how precisely it multiplies float32. Chosen once a process.

Names come from the environment, as those in devices.py do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from . import kernels
from .errors import LoadError, SettingsError

_SWITCH = ("auto", "on", "off")
_KERNEL_DTYPES = (torch.float32, torch.bfloat16)
# A card's reciprocal root may be off by its last bits.
_ROUNDING = 2**-16


@dataclass(frozen=True)
class Acceleration:
    """Two switches, each `auto`, `on` or `off`.

    kernels: our kernels instead of torch's own operations; `auto` is on for a GPU, but for float64. tf32: float32
    products with ten bits of mantissa on a GPU; `auto` is on when talker and predictor are bfloat16. It is for the
    codec and the voice encoders, which are always float32: a factor is off by up to 2^-11 of itself, eight times less
    than in bfloat16, and sums stay float32. Imitated on a CPU, with random weights of the released size, the error lies
    49 dB below the sound; with factors in bfloat16, 31 dB. Upstream's package runs its convolutions so, as torch does
    by default.
    """

    kernels: str = "auto"
    tf32: str = "auto"

    def choose(self, device: torch.device, dtype: torch.dtype) -> None:
        """Set the process. dtype: of the talker and the predictor.

        Raises SettingsError for an unknown word and for kernels that cannot serve here, and LoadError when they should
        run and do not.
        """
        for name, word in (("kernels", self.kernels), ("tf32", self.tf32)):
            if word not in _SWITCH:
                raise SettingsError(f"{name} must be {', '.join(_SWITCH)}, got {word!r}")
        _choose_kernels(self.kernels, device, dtype)
        tf32 = self.tf32 == "on" or (self.tf32 == "auto" and dtype == torch.bfloat16)
        torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
        torch.backends.cudnn.conv.fp32_precision = "tf32" if tf32 else "ieee"  # type: ignore[attr-defined]
        # Where cuDNN has the first word on attention, as from torch 2.11 on a Hopper, it builds a plan for each length
        # of a prompt it has not met, which holds up everybody for some tenths of a second.
        torch.backends.cuda.enable_cudnn_sdp(False)


AUTOMATIC = Acceleration()


def _choose_kernels(word: str, device: torch.device, dtype: torch.dtype) -> None:
    able = device.type == "cuda" and dtype in _KERNEL_DTYPES
    if word == "on" and not able:
        raise SettingsError(f"kernels need a GPU and float32 or bfloat16, not {device} and {dtype}; use auto or off")
    kernels.choose(on=False)
    if word == "off" or not able:
        return
    try:
        kernels.choose(on=True)
        _try_one(device, dtype)
    except Exception as error:  # a compiler, a driver, a card: whatever it is, the reader must learn of the switch
        kernels.choose(on=False)
        raise LoadError(
            f"the kernels do not run on {device}: {type(error).__name__}: {error}. "
            "QWEN3_TTS_KERNELS=off serves without them, more slowly"
        ) from error


def _try_one(device: torch.device, dtype: torch.dtype) -> None:
    """Compile and launch one kernel, and look at what it made."""
    chosen = kernels.chosen()
    assert chosen is not None, "kernels were just chosen"
    with torch.cuda.device(device):  # the language launches on the thread's device, wherever the tensors lie
        x = torch.ones(2, 64, device=device, dtype=dtype)
        made = chosen.rms_norm(x, x[0], 0.0)
        off = (made - x).abs().max().item()
    if not off <= _ROUNDING:
        raise RuntimeError(f"a norm of ones was off by {off:.2g}")
