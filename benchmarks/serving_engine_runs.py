"""Loads an engine in its own process as serving_load.py loads a server: open loop, every clock starting when due.

Knows no server and no other process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks import serving_listener
from benchmarks.serving_engine import EnginePlan
from benchmarks.serving_instant import InstantEngine
from benchmarks.serving_listener import Hearing
from benchmarks.serving_load import PATIENCE_S, Request
from tts_engine import Acceleration, Engine, EngineConfig, Outcome, Overloaded, Speak, SpokenSegment, TtsError

_WARM_UP = Request(0.0, "Hello there.", 0)


class _Listener:
    """A sink that fills a hearing."""

    def __init__(self, hearing: Hearing) -> None:
        self.hearing = hearing
        self.ended = threading.Event()

    def segment(self, segment: SpokenSegment) -> None:
        """Nothing that is heard."""

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        self.hearing.heard(pcm.tobytes(), time.monotonic())

    def end(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self.over("complete", "")
        else:
            self.over("error", str(outcome.error))

    def over(self, outcome: serving_listener.Outcome, reason: str) -> None:
        """Nothing more comes, or nothing at all."""
        self.hearing.end(outcome, reason)
        self.ended.set()


def engine_runs(plan: EnginePlan, runs: Sequence[Sequence[Request]]) -> Iterator[list[Hearing]]:
    """What was heard in each run, when it is over. Raises LoadError."""
    kind = InstantEngine if plan.instant else Engine
    config = EngineConfig.from_parameters(plan.parameters)
    acceleration = Acceleration(kernels=os.environ.get("QWEN3_TTS_KERNELS", "auto"))
    engine = kind.load(
        plan.checkpoint, config, plan.voices, device=plan.device, dtype=plan.dtype, acceleration=acceleration
    )
    engine.start()
    try:
        _drive(engine, [_WARM_UP])
        for requests in runs:
            yield _drive(engine, requests)
    finally:
        engine.shutdown()


def _drive(engine: Engine, requests: Sequence[Request]) -> list[Hearing]:
    start = time.monotonic()
    listeners = [_Listener(Hearing(due=start + request.at)) for request in requests]
    for request, listener in zip(requests, listeners, strict=True):
        time.sleep(max(0.0, listener.hearing.due - time.monotonic()))
        try:
            engine.submit(Speak(text=request.text, seed=request.seed), listener)
        except Overloaded as refusal:
            listener.over("refused", str(refusal))
        except TtsError as error:
            listener.over("error", str(error))
    deadline = time.monotonic() + PATIENCE_S
    for listener in listeners:
        if not listener.ended.wait(max(0.0, deadline - time.monotonic())):
            listener.over("error", f"did not end within {PATIENCE_S:g} s")
    return [listener.hearing for listener in listeners]
