"""The supervisor's decisions, against a model that answers as it is told."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from commands import CommandFailed
from commands.model_control import ModelState, ModelUnwell
from commands.supervisor import Patience, Supervisor

EAGER = Patience(interval=0.0, pauses_between_loads=(0.0, 0.0))
READY = ModelState("READY", "")
LOADING = ModelState("LOADING", "")


class ScriptedModel:
    """Plays a script of answers, well or not, and notes what is done to it; the end of the script ends the test."""

    def __init__(self, answers: Sequence[bool], state: ModelState = READY, failed_loads: int = 0) -> None:
        self._answers = iter(answers)
        self._state = state
        self._failed_loads = failed_loads
        self.done: list[str] = []
        self.exhausted = asyncio.Event()

    async def describe(self, patience: float) -> dict[str, object]:
        answer = next(self._answers, None)
        if answer is None:
            self.exhausted.set()
            await asyncio.Event().wait()
        if not answer:
            raise ModelUnwell("no answer")
        return {}

    async def state(self, patience: float) -> ModelState:
        return self._state

    async def unload(self, patience: float) -> None:
        self.done.append("unload")

    def kill_stubs(self) -> None:
        self.done.append("kill")

    async def load(self) -> None:
        self.done.append("load")
        if self._failed_loads > 0:
            self._failed_loads -= 1
            raise CommandFailed("no memory")


async def watch(model: ScriptedModel) -> None:
    """Supervises until the model's script has been played."""
    watching = asyncio.create_task(Supervisor(model, model.kill_stubs, EAGER).watch())
    exhausted = asyncio.create_task(model.exhausted.wait())
    async with asyncio.timeout(30):
        await asyncio.wait({watching, exhausted}, return_when=asyncio.FIRST_COMPLETED)
    exhausted.cancel()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def test_a_model_that_answers_is_left_alone() -> None:
    model = ScriptedModel([True, True, True])
    await watch(model)
    assert model.done == []


async def test_one_failure_between_answers_is_forgiven() -> None:
    model = ScriptedModel([True, False, True, False, True])
    await watch(model)
    assert model.done == []


async def test_two_failures_in_a_row_unload_kill_and_load_in_this_order() -> None:
    model = ScriptedModel([True, False, False, True])
    await watch(model)
    assert model.done == ["unload", "kill", "load"]


async def test_a_model_that_is_loading_is_not_taken_for_dead() -> None:
    model = ScriptedModel([False] * 5, state=LOADING)
    await watch(model)
    assert model.done == []


async def test_a_load_that_fails_is_tried_again() -> None:
    model = ScriptedModel([False, False, True], failed_loads=2)
    await watch(model)
    assert model.done == ["unload", "kill", "load", "load", "load"]


async def test_the_supervisor_gives_up_with_the_reason_when_no_load_helps() -> None:
    model = ScriptedModel([False, False], failed_loads=3)
    with pytest.raises(CommandFailed, match="no memory"):
        await watch(model)
