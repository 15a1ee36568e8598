"""Kernels that are not run but noted: what launches.py gives them, and what triton would compile for it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
import triton
from torch import Tensor

from tts_engine.kernels import launches, stream_launches

KINDS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int64: "i64", torch.bool: "i1", torch.int16: "i16"}
KERNELS = (
    *("norm_rows", "gate_product", "uniform_rows", "choose_codes", "attend_cached", "join_splits"),
    *("sum_codes", "text_rows", "advance_rows", "write_sheet"),
    *("snake", "join_tail", "overlap_halves", "depthwise_norm", "turn_rows"),
)


@dataclass
class Launch:
    """A kernel that notes what it is given instead of running."""

    kernel: Any
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *args, **options: self.calls.append((args, options))

    def sources(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """For each call what triton would compile for it, and the options."""
        fixed = {parameter.name for parameter in self.kernel.params if parameter.do_not_specialize}
        for args, given in self.calls:
            constants = {name: value for name, value in given.items() if name in self.kernel.arg_names}
            named = list(zip(self.kernel.arg_names, args, strict=False))
            signature = {name: _kind(value) for name, value in named}
            constants |= {name: 1 for name, value in named if name not in fixed and _is_whole(value) and value == 1}
            aligned = {
                (place,): [["tt.divisibility", 16]]
                for place, (name, value) in enumerate(named)
                if name not in constants and name not in fixed and _is_aligned(value)
            }
            signature |= dict.fromkeys(constants, "constexpr")
            source = triton.compiler.ASTSource(self.kernel, signature, constants, aligned)
            yield source, {name: value for name, value in given.items() if name not in constants}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_aligned(value: Any) -> bool:
    """Whether the language may know that a number, or an address, is a multiple of 16."""
    if isinstance(value, Tensor):
        return value.storage_offset() * value.element_size() % 16 == 0
    return _is_whole(value) and value % 16 == 0


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "*" + KINDS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def note_launches(monkeypatch: pytest.MonkeyPatch) -> dict[str, Launch]:
    """Put a noting one in every kernel's place until the test ends."""
    noted = {name: Launch(getattr(home_of(name), name)) for name in KERNELS}
    for name, launch in noted.items():
        monkeypatch.setattr(home_of(name), name, launch)
    return noted


def home_of(name: str) -> ModuleType:
    """The module that launches a kernel."""
    return launches if hasattr(launches, name) else stream_launches
