"""The engine's speed beside the physical limit: frame step and its parts, prompts, time to the first frame.

    scripts/benchmark engine [--model DIR | --full-size 0.6b] [--device cuda] [--quick]

Beside each time stands its floor, from the checkpoint's dimensions (floors.py) and what this device was measured to do
at best (rates.py), and the ratio of the two.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import checkpoints, floors
from benchmarks.charts import Chart, Panel
from benchmarks.engine_plan import Plan, fitting, plan_of
from benchmarks.first_frame import TEXT, FirstFrames
from benchmarks.floors import Rates, Work
from benchmarks.frame_step import KNOWN, Place, Steps
from benchmarks.parts import PARTS, Parts
from benchmarks.rates import DeviceRates
from benchmarks.results import Results, Row, write
from benchmarks.timing import quantile
from tts_engine import LoadError
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.devices import device_named, dtype_named

FRAME_S = 0.08
COLUMNS = ("what", "batch", "length", "measured_ms", "floor_ms", "ratio", "bound", "real_time_factor", "audio_s_per_s")


class Report:
    """Collects rows, each measured time with its floor, and tells of each as it is made."""

    def __init__(self, checkpoint: Checkpoint, rates: DeviceRates, dtype: torch.dtype) -> None:
        self._model, self._codec, self._dtype = checkpoint.model, checkpoint.codec, dtype
        self._wide = torch.promote_types(dtype, torch.float32)  # the codec's own
        self._narrow, self._single = rates.of(dtype), rates.of(self._wide)
        self.rows: list[Row] = []

    def step(self, batch: int, context: int, measured: float, parts: dict[str, float]) -> None:
        """A whole frame step and its parts, in milliseconds."""
        works = self._parts(batch, context)
        floor = sum(work.seconds(rates) for work, rates in works.values())
        speed = {"real_time_factor": measured / 1e3 / FRAME_S, "audio_s_per_s": batch * FRAME_S / (measured / 1e3)}
        apart = {f"{part}_ms": value for part, value in parts.items()}
        self._add("frame step", batch, context, measured, floor, {**speed, **apart})
        for part, value in parts.items():
            work, rates = works[part]
            self._add(part, batch, context, value, work.seconds(rates), {"bound": work.bound(rates)})

    def prefill(self, batch: int, length: int, measured: float) -> None:
        """Prompts that come at once."""
        work = self._prefill(batch, length)
        self._add("prefill", batch, length, measured, work.seconds(self._narrow), {"bound": work.bound(self._narrow)})

    def first_frame(self, what: str, batch: int, length: int, measured: float) -> None:
        """From request to first frame; its floor is that of reading the prompts and of one step."""
        steps = sum(work.seconds(rates) for work, rates in self._parts(batch, length).values())
        self._add(what, batch, length, measured, self._prefill(batch, length).seconds(self._narrow) + steps, {})

    def _prefill(self, batch: int, length: int) -> Work:
        return floors.prefill(self._model, batch, length, KNOWN, self._dtype.itemsize)

    def _parts(self, batch: int, context: int) -> dict[str, tuple[Work, Rates]]:
        size = self._dtype.itemsize
        return {
            "talker": (floors.talker_step(self._model, batch, context, size), self._narrow),
            "predictor": (floors.predictor_frame(self._model, batch, size), self._narrow),
            "sampling": (floors.sampling(self._model, batch), self._single),
            "codec": (floors.codec_frame(self._codec, batch, self._wide.itemsize), self._single),
        }

    def _add(self, what: str, batch: int, length: int, measured: float, floor: float, more: dict[str, Any]) -> None:
        row = {"what": what, "batch": batch, "length": length, "measured_ms": measured, "floor_ms": 1e3 * floor}
        self.rows.append({**row, "ratio": measured / (1e3 * floor), **more})
        print(f"{what:>24}  batch {batch:<4} length {length:<4} {measured:10.3f} ms  floor {1e3 * floor:10.4f} ms")


def measure(folder: Path, plan: Plan, report: Report) -> Iterator[str]:
    """Measure everything in the plan; yields notes on what could not be."""
    _measure_first_frames(folder, plan, report)
    gc.collect()
    checkpoint = Checkpoint.read(folder)
    networks = load_networks(checkpoint, plan.device, plan.dtype)
    frames = plan.warm_up + plan.repeats + 8
    config = Place(checkpoint, networks, plan.device, plan.dtype, 1, plan.longest, frames).config
    batches = fitting(plan, checkpoint, config.max_length)
    if left := sorted(set(plan.batches) - set(batches)):
        yield f"Not measured, since their keys and values do not fit in memory: batch {', '.join(map(str, left))}."
    place = Place(checkpoint, networks, plan.device, plan.dtype, max(batches), plan.longest, frames)
    _measure_steps(place, batches, plan, report)


def _measure_first_frames(folder: Path, plan: Plan, report: Report) -> None:
    """The prompt's length is not told by the engine; that of a short sentence stands for it in the floor."""
    length = KNOWN + len(TEXT.split())
    engine = FirstFrames(folder, max(plan.bursts), str(plan.device), str(plan.dtype).removeprefix("torch."))
    try:
        engine.burst(1)
        for count in plan.bursts:
            rounds = [engine.burst(count) for _ in range(plan.repeats)]
            times = [1e3 * time for once in rounds for time in once]
            report.first_frame("first frame, median", count, length, quantile(times, 0.5))
            if count > 1:
                report.first_frame("first frame, last", count, length, max(times))
    finally:
        engine.close()


def _measure_steps(place: Place, batches: Iterable[int], plan: Plan, report: Report) -> None:
    context = plan.context
    steps = Steps(place, context)
    whole = {batch: steps.time(batch, plan.repeats, plan.warm_up).median_ms for batch in batches}
    for length in plan.lengths:
        for count in plan.prefill_batches:
            report.prefill(count, length, steps.time_prefill(count, length, plan.repeats).median_ms)
    del steps  # its buffers make room for those of the parts
    gc.collect()
    parts = Parts(place, context)
    for batch, measured in whole.items():
        apart = {part: parts.time(part, batch, plan.repeats).median_ms for part in PARTS}
        report.step(batch, context, measured, apart)


def chart_of(name: str, rows: list[Row]) -> Chart:
    """Step beside its floor, the parts upon each other, prompts, first frames."""
    step = {"what": "frame step"}
    kinds = sorted({row["what"] for row in rows if row["what"].startswith("first frame")}, reverse=True)
    both, batch = ("measured_ms", "floor_ms"), "batch (utterances)"
    parts = tuple(f"{part}_ms" for part in PARTS)
    largest = max((row["batch"] for row in rows if row["what"] == "prefill"), default=1)
    prefill = {"what": "prefill", "batch": largest}
    firsts = [
        Panel(kind, "batch", both, "requests at once", "time (ms)", "bars", where={"what": kind}) for kind in kinds
    ]
    return Chart(
        f"Engine, {name}",
        (
            Panel("frame step (80 ms of audio)", "batch", both, batch, "time (ms)", "lines", None, step, True, True),
            Panel("parts of a frame step", "batch", parts, batch, "time (ms)", "stacked", where=step),
            Panel("throughput", "batch", ("audio_s_per_s",), batch, "audio (s/s)", where=step, log_x=True),
            Panel(f"{largest} prompts at once", "length", both, "length (positions)", "time (ms)", where=prefill),
            *firsts,
        ),
    )


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmark engine", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    checkpoints.add_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--batches", help="batch sizes, as 1,2,4 (default: 1 to 256, of which those that fit)")
    parser.add_argument("--context", type=int, help="positions behind an utterance while it is measured (default 200)")
    parser.add_argument("--repeats", type=int, help="how often each thing is timed; the median counts")
    parser.add_argument("--threads", type=int, help="threads of torch on a CPU")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions: minutes on a CPU")
    parser.add_argument("--smoke", action="store_true", help="only to see that it works: seconds on the demo")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"), help="folder of the results")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when its results are written, 2 when it could not start."""
    options = _arguments(arguments)
    if options.threads is not None or options.smoke:
        torch.set_num_threads(options.threads or 1)  # what is tiny is not worth sharing
    try:
        device = device_named(options.device)
        plan = plan_of(options, device, dtype_named(options.dtype, device))
        with checkpoints.chosen(options, device) as measured:
            _run(measured, plan, options.out)
    except (LoadError, ValueError) as error:
        print(f"benchmark engine: {error}", file=sys.stderr)
        return 2
    return 0


def _run(measured: checkpoints.Measured, plan: Plan, out: Path) -> None:
    checkpoint = Checkpoint.read(measured.folder)
    wide = torch.promote_types(plan.dtype, torch.float32)
    rates = DeviceRates.measure(plan.device, {plan.dtype, wide}, brief=plan.brief)
    report = Report(checkpoint, rates, plan.dtype)
    notes = tuple(measure(measured.folder, plan, report))
    settings = {"checkpoint": measured.name, **plan.described(), **rates.described()}
    dtype = str(plan.dtype).removeprefix("torch.")
    name = f"engine-{measured.name}-{plan.device.type}-{dtype}"
    chart = chart_of(f"{measured.name}, {plan.device.type}, {dtype}", report.rows)
    for path in write(Results(name, settings, COLUMNS, report.rows, notes), out, chart):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
