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

import torch

from benchmarks import checkpoints
from benchmarks.engine_plan import Plan, fitting, plan_of
from benchmarks.engine_report import COLUMNS, Report, chart_of
from benchmarks.first_frame import TEXT, FirstFrames
from benchmarks.frame_step import KNOWN, Place, Steps
from benchmarks.parts import PARTS, Parts
from benchmarks.rates import DeviceRates
from benchmarks.results import Results, write
from benchmarks.timing import Timing
from tts_engine import LoadError
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.devices import device_named, dtype_named


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
            everyone = Timing(tuple(seconds for once in rounds for seconds in once))
            report.first_frame("first frame, median", count, length, everyone)
            if count > 1:
                report.first_frame("first frame, last", count, length, Timing(tuple(once[-1] for once in rounds)))
    finally:
        engine.close()


def _measure_steps(place: Place, batches: Iterable[int], plan: Plan, report: Report) -> None:
    context = plan.context
    steps = Steps(place, context)
    whole = {batch: steps.time(batch, plan.repeats, plan.warm_up) for batch in batches}
    for length in plan.lengths:
        for count in plan.prefill_batches:
            report.prefill(count, length, steps.time_prefill(count, length, plan.repeats))
    del steps  # its buffers make room for those of the parts
    gc.collect()
    parts = Parts(place, context)
    for batch, measured in whole.items():
        report.step(batch, context, measured, {part: parts.time(part, batch, plan.repeats) for part in PARTS})


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
    dtypes = {plan.dtype, torch.promote_types(plan.dtype, torch.float32)}
    report = Report(checkpoint, plan.dtype, KNOWN)
    before = DeviceRates.measure(plan.device, dtypes, brief=plan.brief)
    notes = tuple(measure(measured.folder, plan, report))
    # The better of two looks, since something else may have been at work during the first.
    rates = before.best(DeviceRates.measure(plan.device, dtypes, brief=plan.brief))
    settings = {"checkpoint": measured.name, **plan.described(), **rates.described()}
    dtype = str(plan.dtype).removeprefix("torch.")
    name = f"engine-{measured.name}-{plan.device.type}-{dtype}"
    rows = report.rows(rates)
    chart = chart_of(f"{measured.name}, {plan.device.type}, {dtype}", rows)
    for path in write(Results(name, settings, COLUMNS, rows, notes), out, chart):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
