"""Keeps a loaded model answering: asks it every second, and brings it back when it has died or hangs.

Triton does not notice a dead stub, so somebody beside the server has to. Knows the model only by
its answers, and its processes only as something to be killed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from commands import CommandFailed
from commands.model_control import ModelState, ModelUnwell


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, and how often a supervisor waits."""

    interval: float = 1.0
    answer: float = 2.0
    failures: int = 2
    unload: float = 5.0
    pauses_between_loads: tuple[float, ...] = (1.0, 5.0)


class Model(Protocol):
    """What a supervisor asks of the model; see model_control.py, whose errors these are."""

    async def describe(self, patience: float) -> dict[str, Any]: ...
    async def state(self, patience: float) -> ModelState: ...
    async def load(self) -> None: ...
    async def unload(self, patience: float) -> None: ...


class Supervisor:
    """Watches one model. `kill_stubs` ends the model's processes, also those that hang."""

    def __init__(self, model: Model, kill_stubs: Callable[[], None], patience: Patience | None = None) -> None:
        self._model = model
        self._kill_stubs = kill_stubs
        self._patience = patience or Patience()

    async def watch(self) -> NoReturn:
        """Runs until it is cancelled. Raises CommandFailed when the model cannot be brought back."""
        while True:
            await self._revive(await self._death())

    async def _death(self) -> str:
        """Returns, with the reason, once the model has failed to answer several times in a row."""
        failures = 0
        while True:
            try:
                await self._model.describe(self._patience.answer)
            except ModelUnwell as unwell:
                # A model that somebody is loading cannot answer yet and must be left in peace.
                loading = (await self._model.state(self._patience.answer)).name == "LOADING"
                failures = 0 if loading else failures + 1
                if failures == self._patience.failures:
                    return str(unwell)
            else:
                failures = 0
            if failures == 0:
                await asyncio.sleep(self._patience.interval)

    async def _revive(self, reason: str) -> None:
        """A fresh process for the model: unload, then load; a load alone changes nothing."""
        print(f"supervisor: the model does not answer ({reason}); loading it again", flush=True)
        began = asyncio.get_running_loop().time()
        await self._model.unload(self._patience.unload)
        self._kill_stubs()
        await self._load()
        seconds = asyncio.get_running_loop().time() - began
        print(f"supervisor: the model is back after {seconds:.1f} s", flush=True)

    async def _load(self) -> None:
        for pause in self._patience.pauses_between_loads:
            try:
                return await self._model.load()
            except CommandFailed as failure:
                print(f"supervisor: {failure}; trying again in {pause:g} s", flush=True)
                await asyncio.sleep(pause)
        await self._model.load()
