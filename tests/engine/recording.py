"""A CUDA graph's bargain, kept on a CPU: what an operation was given is written down once and used for ever.

A recording holds every operation with the very tensors and numbers it had, as a graph holds addresses and kernel
arguments. Replaying runs them again into the same outputs. Anything that was read on the host or made anew for one
step is thereby frozen, and shows as a difference as soon as the state is another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations that make the host wait for the device, or bring it numbers from the host.
_WAITING = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "unique", "equal", "_unique2")
_FROM_HOST = ("lift", "lift_fresh", "lift_fresh_copy", "scalar_tensor", "from_file")


@dataclass(frozen=True)
class Operation:
    """One call of torch, and what it gave."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Tensor]
    is_view: bool

    @property
    def name(self) -> str:
        return self.function.overloadpacket.__name__

    def replay(self) -> None:
        if self.is_view:
            return
        made = self.function(*self.args, **self.kwargs)
        for old, new in zip(self.outputs, tensors_in(made), strict=True):
            if new is not old:
                old.copy_(new)


@dataclass
class Recording(TorchDispatchMode):
    """Writes down what happens inside `with recording:`."""

    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        given, outputs = tensors_in((args, kwargs)), tensors_in(made)
        # A packed weight has no storage to look at, and is nobody's view.
        owned = {tensor.untyped_storage().data_ptr() for tensor in given if not tensor.is_mkldnn}
        aliases = all(tensor.untyped_storage().data_ptr() in owned for tensor in outputs)
        is_view = aliases and not function._schema.is_mutable
        self.operations.append(Operation(function, args, kwargs, outputs, is_view))
        return made

    @torch.inference_mode()
    def replay(self) -> None:
        """Do all of it again."""
        for operation in self.operations:
            operation.replay()

    def waits(self) -> list[str]:
        """Names of operations that would hold the host up on a GPU, or freeze a number of the host's in a graph."""
        return [operation.name for operation in self.operations if _waits(operation)]


def record(work: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
    """A recording of `work`, and what it returned, which each replay overwrites."""
    recording = Recording()
    with torch.inference_mode(), recording:
        result = work()
    return recording, result


def tensors_in(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _waits(operation: Operation) -> bool:
    if operation.name in (*_WAITING, *_FROM_HOST):
        return True
    if operation.name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return any(index.dtype in (torch.bool, torch.uint8) for index in tensors_in(operation.args[1]))
    return False
