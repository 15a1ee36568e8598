"""Garbage that only a search can find: what holds itself in a circle, and stays until the interpreter looks for it."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def no_garbage(*modules: str) -> AsyncIterator[None]:
    """No object of a class from these modules becomes garbage within the block; modules: how their names begin."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = sorted(kind for kind in map(_kind, gc.garbage) if kind.startswith(modules))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found == []


def _kind(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"
