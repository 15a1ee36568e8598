"""Goes through the plan of the engine's benchmark and hands each time to the report.

What fails on the device is noted and the rest still measured: a run on a GPU is too dear to lose to one of its sizes.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.engine_plan import Plan, fitting
from benchmarks.engine_report import Report
from benchmarks.first_frame import TEXT, FirstFrames
from benchmarks.frame_step import KNOWN, Place, Steps
from benchmarks.parts import PARTS, Parts
from benchmarks.rates import DeviceRates
from benchmarks.timing import Timing
from tts_engine.checkpoint import Checkpoint, Networks, load_networks
from tts_engine.config import EngineConfig
from tts_engine.devices import codec_is_mixed

_SPARE_FRAMES = 8


class Runs:
    """One pass through a plan. notes: what could not be measured, and why; failed: how many things have failed."""

    def __init__(self, folder: Path, plan: Plan, keep: Callable[[DeviceRates], None]) -> None:
        """keep: called after each part of the plan with what the device does at best, as far as it is known."""
        self._folder, self._plan, self._keep = folder, plan, keep
        self._checkpoint = Checkpoint.read(folder)
        self._dtypes = {plan.dtype, torch.promote_types(plan.dtype, torch.float32)}
        self._mixed_codec = codec_is_mixed(EngineConfig.codec_precision, plan.device, plan.dtype)
        self.report = Report(self._checkpoint, plan.dtype, KNOWN, mixed_codec=self._mixed_codec)
        self.notes: list[str] = []
        self.failed = 0

    def measure(self) -> DeviceRates:
        """Measure everything; returns what the device does at best."""
        rates = self._look()
        with self._noting("the networks"):
            networks = load_networks(
                self._checkpoint, self._plan.device, self._plan.dtype, mixed_codec=self._mixed_codec
            )
            for measure in (self._measure_steps, self._measure_parts):
                measure(networks)
                self._release()  # the runner's buffers make room for those of the parts
                rates = self._look_again(rates)
            del networks
        self._release()
        with self._noting("the time to the first frame"):
            self._measure_first_frames()
        self._release()
        return self._look_again(rates)

    def _look_again(self, rates: DeviceRates) -> DeviceRates:
        """The best of several looks, since something else may have been at work during one; then what is known is
        kept."""
        with self._noting("another look at the device"):
            rates = rates.best(self._look())
        self._keep(rates)
        return rates

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Note a failure, such as too little memory or a kernel that does not compile, and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a compiler's or a driver's are of many kinds
            self.failed += 1
            why = str(error).partition("\n")[0] or type(error).__name__
            self.notes.append(f"Not measured: {what}: {why}.")
            print(self.notes[-1], file=sys.stderr, flush=True)

    def _release(self) -> None:
        """Give memory that is no longer used back to the device, where an engine counts what is free."""
        gc.collect()
        if self._plan.device.type == "cuda":
            torch.cuda.empty_cache()

    def _look(self) -> DeviceRates:
        return DeviceRates.measure(self._plan.device, self._dtypes, brief=self._plan.brief)

    def _place(self, networks: Networks) -> tuple[Place, tuple[int, ...]]:
        """Where steps are measured, and the batches that have room there."""
        plan = self._plan
        frames = plan.warm_up + plan.repeats + _SPARE_FRAMES
        place = Place(self._checkpoint, networks, plan.device, plan.dtype, 1, plan.longest, frames)
        batches = fitting(plan, self._checkpoint, place.config.max_length)
        return replace(place, slots=max(batches)), batches

    def _measure_steps(self, networks: Networks) -> None:
        plan, (place, batches) = self._plan, self._place(networks)
        if left := sorted(set(plan.batches) - set(batches)):
            listed = ", ".join(map(str, left))
            self.notes.append(f"Not measured, since its keys and values do not fit in memory: batch {listed}.")
        with self._noting("frame steps and prompts"):
            steps = Steps(place, plan.context)
            for batch in batches:
                with self._noting(f"the frame step at batch {batch}"):
                    self.report.step(batch, plan.context, steps.time(batch, plan.repeats, plan.warm_up))
            for length, count in itertools.product(plan.lengths, plan.prefill_batches):
                with self._noting(f"{count} prompts of {length} positions"):
                    self.report.prefill(count, length, steps.time_prefill(count, length, plan.repeats))

    def _measure_parts(self, networks: Networks) -> None:
        place, batches = self._place(networks)
        with self._noting("the parts of a step"):
            parts = Parts(place, self._plan.context)
            for batch, part in itertools.product(batches, PARTS):
                with self._noting(f"{part} at batch {batch}"):
                    timing = parts.time(part, batch, self._plan.repeats)
                    self.report.part(part, batch, self._plan.context, timing)

    def _measure_first_frames(self) -> None:
        """The engine does not tell the prompt's length; that of a short sentence stands for it in the floor."""
        plan, length = self._plan, KNOWN + len(TEXT.split())
        dtype = str(plan.dtype).removeprefix("torch.")
        engine = FirstFrames(self._folder, max(plan.bursts), str(plan.device), dtype, plan.acceleration)
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
