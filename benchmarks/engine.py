"""The engine's speed beside the physical limit: frame step and its parts, prompts, time to the first frame.

    scripts/benchmark engine [--model DIR | --full-size 0.6b] [--device cuda] [--quick]

Beside each time stands its floor, from the checkpoint's dimensions (floors.py) and what this device was measured to do
at best (rates.py), and the ratio of the two.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import tts_engine  # before torch, as in the server: it says how long torch's threads wait awake

# isort: split
from benchmarks import checkpoints
from benchmarks.charts import Chart
from benchmarks.engine_plan import Plan, plan_of
from benchmarks.engine_report import COLUMNS, chart_of, remarks
from benchmarks.engine_runs import Runs
from benchmarks.rates import DeviceRates
from benchmarks.results import Results, keep, write
from tts_engine.devices import Placement


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmark engine", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    checkpoints.add_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    kernels = os.environ.get("QWEN3_TTS_KERNELS", "auto")
    parser.add_argument("--kernels", default=kernels, help="our kernels on a GPU: auto, on or off (default: as served)")
    parser.add_argument(
        "--tf32", default="auto", help="float32 products on a GPU in TF32: auto, on or off (default auto)"
    )
    parser.add_argument("--batches", help="batch sizes, as 1,2,4 (default: 1 to 256, of which those that fit)")
    parser.add_argument("--context", type=int, help="positions behind an utterance while it is measured (default 200)")
    parser.add_argument("--repeats", type=int, help="how often each thing is timed; the median counts")
    parser.add_argument("--threads", type=int, help="threads of torch on a CPU")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions: minutes on a CPU")
    parser.add_argument("--smoke", action="store_true", help="only to see that it works: seconds on the demo")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"), help="folder of the results")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when all was measured, 1 when something failed on the device, 2 when it could not start."""
    options = _arguments(arguments)
    threads = options.threads or ("1" if options.smoke else "auto")  # what is tiny is not worth sharing
    try:
        place = Placement.named(options.device, options.dtype, str(threads))
        plan = plan_of(options, place.device, place.dtype)
        plan.acceleration.choose(place.device, plan.dtype)
        with checkpoints.chosen(options, place.device) as measured:
            return _run(measured, plan, options.out)
    except (tts_engine.LoadError, ValueError) as error:
        print(f"benchmark engine: {error}", file=sys.stderr)
        return 2


def _run(measured: checkpoints.Measured, plan: Plan, out: Path) -> int:
    dtype = str(plan.dtype).removeprefix("torch.")
    plain = "-plain" if plan.acceleration.kernels == "off" else ""
    name = f"engine-{measured.name}-{plan.device.type}-{dtype}{plain}"

    def made_of(rates: DeviceRates) -> tuple[Results, Path, Chart]:
        rows = runs.report.rows(rates)
        settings = {"checkpoint": measured.name, **plan.described(), **rates.described()}
        chart = chart_of(f"{measured.name}, {plan.device.type}, {dtype}{plain}", rows)
        return Results(name, settings, COLUMNS, rows, (*runs.notes, *remarks(rows))), out, chart

    runs = Runs(measured.folder, plan, lambda rates: print(keep(*made_of(rates)), flush=True))
    for path in write(*made_of(runs.measure())):
        print(path)
    return int(runs.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
