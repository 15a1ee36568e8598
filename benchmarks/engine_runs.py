"""Goes through the plan of the engine's benchmark and hands each time to the report.

What fails on the device is noted and the rest still measured: a run on a GPU is too dear to lose to one of its sizes.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.engine_plan import Plan, fitting
from benchmarks.engine_report import Report
from benchmarks.first_frame import TEXT, FirstFrames
from benchmarks.frame_step import KNOWN, Place, Steps
from benchmarks.parts import PARTS, Parts
from benchmarks.rates import DeviceRates
from benchmarks.timing import Timing
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.config import EngineConfig
from tts_engine.devices import codec_is_mixed

_SPARE_FRAMES = 8


class Runs:
    """One pass through a plan. notes: what could not be measured, and why; failed: how many things have failed."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self._checkpoint = Checkpoint.read(folder)
        self._dtypes = {plan.dtype, torch.promote_types(plan.dtype, torch.float32)}
        self._mixed_codec = codec_is_mixed(EngineConfig.codec_precision, plan.device, plan.dtype)
        self.report = Report(self._checkpoint, plan.dtype, KNOWN, mixed_codec=self._mixed_codec)
        self.notes: list[str] = []
        self.failed = 0

    def measure(self) -> DeviceRates:
        """Measure everything; returns what the device does at best."""
        rates = self._look()
        for what, measure in (
            ("the networks", self._measure_networks),
            ("the time to the first frame", self._measure_first_frames),
        ):
            with self._noting(what):
                measure()
            self._release()
            with self._noting("another look at the device"):
                # The best of several, since something else may have been at work during one.
                rates = rates.best(self._look())
        return rates

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Note a failure of the device, such as too little memory, and go on."""
        try:
            yield
        except RuntimeError as error:
            self.failed += 1
            self.notes.append(f"Not measured: {what}: {str(error).partition(chr(10))[0]}.")
            print(self.notes[-1], file=sys.stderr, flush=True)

    def _release(self) -> None:
        """Give memory that is no longer used back to the device, where an engine counts what is free."""
        gc.collect()
        if self._plan.device.type == "cuda":
            torch.cuda.empty_cache()

    def _look(self) -> DeviceRates:
        return DeviceRates.measure(self._plan.device, self._dtypes, brief=self._plan.brief)

    def _measure_networks(self) -> None:
        plan = self._plan
        networks = load_networks(self._checkpoint, plan.device, plan.dtype, mixed_codec=self._mixed_codec)
        frames = plan.warm_up + plan.repeats + _SPARE_FRAMES

        def place(slots: int) -> Place:
            return Place(self._checkpoint, networks, plan.device, plan.dtype, slots, plan.longest, frames)

        batches = fitting(plan, self._checkpoint, place(1).config.max_length)
        if left := sorted(set(plan.batches) - set(batches)):
            listed = ", ".join(map(str, left))
            self.notes.append(f"Not measured, since its keys and values do not fit in memory: batch {listed}.")
        with self._noting("frame steps and prompts"):
            self._measure_steps(place(max(batches)), batches)
        self._release()  # the runner's buffers make room for those of the parts
        with self._noting("the parts of a step"):
            self._measure_parts(place(max(batches)), batches)

    def _measure_steps(self, place: Place, batches: Iterable[int]) -> None:
        plan = self._plan
        steps = Steps(place, plan.context)
        for batch in batches:
            with self._noting(f"the frame step at batch {batch}"):
                self.report.step(batch, plan.context, steps.time(batch, plan.repeats, plan.warm_up))
        for length in plan.lengths:
            for count in plan.prefill_batches:
                with self._noting(f"{count} prompts of {length} positions"):
                    self.report.prefill(count, length, steps.time_prefill(count, length, plan.repeats))

    def _measure_parts(self, place: Place, batches: Iterable[int]) -> None:
        parts = Parts(place, self._plan.context)
        for batch in batches:
            for part in PARTS:
                with self._noting(f"{part} at batch {batch}"):
                    timing = parts.time(part, batch, self._plan.repeats)
                    self.report.part(part, batch, self._plan.context, timing)

    def _measure_first_frames(self) -> None:
        """The engine does not tell the prompt's length; that of a short sentence stands for it in the floor."""
        plan, length = self._plan, KNOWN + len(TEXT.split())
        dtype = str(plan.dtype).removeprefix("torch.")
        engine = FirstFrames(self._folder, max(plan.bursts), str(plan.device), dtype)
        try:
            engine.burst(1)
            for count in plan.bursts:
                rounds = [engine.burst(count) for _ in range(plan.repeats)]
                everyone = Timing(tuple(seconds for once in rounds for seconds in once))
                self.report.first_frame("first frame, median", count, length, everyone)
                if count > 1:
                    last = Timing(tuple(once[-1] for once in rounds))
                    self.report.first_frame("first frame, last", count, length, last)
        finally:
            engine.close()
