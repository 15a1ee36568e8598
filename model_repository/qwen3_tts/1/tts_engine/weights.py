"""The tensors of a checkpoint: each taken exactly once, by name and shape, or a clear error.

Reads one safetensors file or a sharded set with its index. Knows nothing of networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import CheckpointError


class Weights:
    """Named tensors of a checkpoint folder, handed out once each on one device."""

    def __init__(self, readers: dict[str, Callable[[], Tensor]], device: torch.device) -> None:
        self._readers = readers
        self._untaken = set(readers)
        self._device, self._dtype = device, torch.float32

    def cast(self, dtype: torch.dtype) -> Self:
        """These weights, handing out tensors in `dtype` from now on; float32 before the first call."""
        self._dtype = dtype
        return self

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor `name`, checked to have `shape`.

        Raises CheckpointError when it is missing, has another shape, or was taken before.
        """
        if name not in self._readers:
            raise CheckpointError(f"the checkpoint has no tensor {name!r}")
        if name not in self._untaken:
            raise CheckpointError(f"tensor {name!r} would be used twice")
        self._untaken.remove(name)
        tensor = self._readers[name]()
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"tensor {name!r} has shape {tuple(tensor.shape)}, the config says {shape}")
        return tensor.to(device=self._device, dtype=self._dtype)

    def leave(self, prefixes: Iterable[str]) -> None:
        """Declare tensors this engine knows and has no use for, by the beginnings of their names."""
        starts = tuple(prefixes)
        self._untaken = {name for name in self._untaken if not name.startswith(starts)}

    def finish(self) -> None:
        """Check that nothing is left over.

        Raises CheckpointError listing tensors nobody took: the checkpoint holds something this engine ignores.
        """
        if self._untaken:
            names = sorted(self._untaken)
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise CheckpointError(f"the checkpoint has tensors this engine does not use: {shown}")


@contextmanager
def open_weights(folder: Path, device: torch.device) -> Iterator[Weights]:
    """The weights of `folder` (model.safetensors, or model.safetensors.index.json and its shards).

    On leaving without an error, every tensor must have been taken. Raises CheckpointError.
    """
    with ExitStack() as stack:
        readers: dict[str, Callable[[], Tensor]] = {}
        for path in _weight_files(folder):
            handle = _open_file(stack, path)
            for name in handle.keys():  # noqa: SIM118 - not a mapping
                if name in readers:
                    raise CheckpointError(f"tensor {name!r} stands in more than one file of {folder}")
                readers[name] = _reader(handle, name)
        weights = Weights(readers, device)
        yield weights
        weights.finish()


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(f"{folder} has neither model.safetensors nor model.safetensors.index.json")
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = [shard for shard in shards if Path(shard).name != shard]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is not a safetensors index: {error!r}") from error
    if outside:
        raise CheckpointError(f"{index} names a shard outside its folder: {outside[0]!r}")
    return [folder / shard for shard in shards]


def _open_file(stack: ExitStack, path: Path) -> Any:
    try:
        return stack.enter_context(safe_open(path, framework="pt"))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _reader(handle: Any, name: str) -> Callable[[], Tensor]:
    return lambda: handle.get_tensor(name)
