"""The engine's loop without its thread, on a clock that moves only when a test says so: every schedule can be played
again, and time costs none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tests.engine.fakes import Listener, ScriptedRunner
from tts_engine import EngineConfig, Speak
from tts_engine.admission import Admission
from tts_engine.checkpoint import Checkpoint, Networks
from tts_engine.generation import Generation
from tts_engine.pace import Pace
from tts_engine.preparation import Preparation
from tts_engine.request import Utterance
from tts_engine.runner import Flight, Frame, Parked, Prefilled, Runner
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import VoiceBook

ENOUGH = 100_000


class Clock:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class TimedFlight:
    """A step that takes until `done`."""

    def __init__(self, flight: Flight, clock: Clock, done: float) -> None:
        self._flight, self._clock, self.done = flight, clock, done

    def land(self) -> Frame:
        self._clock.now = max(self._clock.now, self.done)
        return self._flight.land()


class TimedRunner(ScriptedRunner):
    """A device of its own beside the clock: a step of B rows takes `step(B)` seconds, a prompt `prompt`, and half a
    change of places `copy`, one after the other.
    """

    def __init__(
        self,
        clock: Clock,
        step: Callable[[int], float],
        *,
        prompt: float = 0.0,
        copy: float = 0.0,
        ahead: int = 0,
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.ahead = ahead
        self._clock, self._step, self._prompt, self._copy = clock, step, prompt, copy
        self._free_at = 0.0
        self.sizes: list[int] = []

    def prepare(self, *wanted: Any) -> Prefilled:
        self._work(self._prompt)
        return super().prepare(*wanted)

    def launch(self, rows: int, longest: int, held: Any) -> Any:
        self.sizes.append(rows)
        return TimedFlight(super().launch(rows, longest, held), self._clock, self._work(self._step(rows)))

    def park(self, *place: Any) -> Parked:
        self._work(self._copy)
        return super().park(*place)

    def unpark(self, *place: Any) -> None:
        self._work(self._copy)
        super().unpark(*place)

    def _work(self, seconds: float) -> float:
        self._free_at = max(self._free_at, self._clock.now) + seconds
        return self._free_at


class AheadRunner(Runner):
    """The real networks as a GPU would run them: the next step is started before the last one's results are taken."""

    ahead = 1


class TimedListener(Listener):
    """One who notes when each frame came, and plays at once: `waited` is the most silence between two of them."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.times: list[float] = []

    def audio(self, *sound: Any) -> None:
        super().audio(*sound)
        self.times.append(self._clock.now)

    @property
    def gaps(self) -> list[float]:
        """Every pause in the playing, in seconds."""
        found, played_out = [], self.times[0]
        for time in self.times:
            if time > played_out + 1e-9:
                found.append(time - played_out)
            played_out = max(played_out, time) + 0.08
        return found


@dataclass
class Rehearsal:
    """A generation and all that it needs; `ended` lists utterances as they end."""

    checkpoint: Checkpoint
    config: EngineConfig
    runner: Runner
    clock: Clock = field(default_factory=Clock)
    ended: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        book = VoiceBook(self.checkpoint.model, VoiceLibrary(None), "")
        self.preparation = Preparation(self.checkpoint, self.config, book)
        self.pace = Pace(self.config.slots)
        self.generation = Generation(
            self.config, self.preparation.prompts, self.runner, self.pace, self._note, self.clock
        )
        self.statistics = self.generation.statistics
        self.admission = Admission(self.config, self.pace, self.statistics, closed="")
        self.admission.open()

    def _note(self, utterance: Utterance, reason: Any) -> None:
        self.ended.append((utterance.id, reason))
        self.admission.leave(utterance, reason)

    def submit(self, speak: Speak, listener: Listener) -> Utterance:
        """Bring an utterance in. Raises what the engine would."""
        self.admission.check()
        utterance, _ = self.preparation.prepare(speak, listener)
        utterance.submitted = utterance.last_text = self.clock.now
        self.admission.enter(utterance)
        self.generation.enqueue(utterance)
        return utterance

    def listen(self, speak: Speak) -> TimedListener:
        """Bring an utterance in, and hear it."""
        listener = TimedListener(self.clock)
        self.submit(speak, listener)
        return listener

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Advance until there is nothing to do, or `until` says so."""
        for _ in range(ENOUGH):
            if until() or not self.generation.has_work:
                return
            self.generation.advance()
        raise AssertionError("the engine did not come to an end")


def real_runner(kind: type[Runner], checkpoint: Checkpoint, networks: Networks, config: EngineConfig) -> Runner:
    """The tiny networks in double precision, in which company changes no code."""
    return kind(networks, checkpoint.model, config, torch.device("cpu"), torch.float64)


def lasting(frames: int, **values: Any) -> Speak:
    """The scripted runner makes as many frames as the seed says."""
    return replace(Speak(text="Hello", voice="ryan", seed=frames), **values)
