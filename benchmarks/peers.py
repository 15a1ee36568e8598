"""Our engine beside the official package and faster-qwen3-tts: one run, one checkpoint, the same texts and lengths.

    scripts/benchmark peers [--model DIR | --full-size 0.6b] [--device cuda] [--quick]

Every peer speaks in a process of its own with the same number of threads, turn by turn, so that whatever else the
machine does hits all alike. Each utterance is as many frames long as asked, on all sides, or the run fails.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks import checkpoints
from benchmarks.charts import Chart, Panel
from benchmarks.peer_process import PeerFailed, PeerProcess
from benchmarks.peer_worker import Job, Spoken
from benchmarks.results import Results, write
from benchmarks.tables import Row
from tts_engine import LoadError
from tts_engine.devices import device_named

FRAME_S = 0.08
PEERS = ("official", "faster", "ours")
NAMES = {"official": "qwen-tts (official)", "faster": "faster-qwen3-tts", "ours": "this engine"}
COLUMNS = (
    *("peer", "dtype", "batch", "frames", "utterance_s", "first_audio_s", "frames_per_s", "audio_s_per_s"),
    *("times_official", "first_audio_of_official_utterance_ratio", "remark"),
)
# Long enough that no checkpoint ends before the frames asked for: openings of books in the public domain.
TEXTS = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. However little known the feelings of such a man may be, this truth is well fixed in the minds of others.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it "
    "was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of Dark.",
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about and see the watery part of the world.",
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or "
    "twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it at all.",
    "When on board the Beagle, as naturalist, I was much struck with certain facts in the distribution of the "
    "inhabitants of South America, and in the geological relations of the present to the past of that continent.",
    "To Sherlock Holmes she is always the woman. I have seldom heard him mention her under any other name. In his eyes "
    "she eclipses and predominates the whole of her sex. It was not that he felt any emotion akin to love for her.",
    "You will rejoice to hear that no disaster has accompanied the commencement of an enterprise which you have "
    "regarded with such evil forebodings. I arrived here yesterday, and my first task is to assure my dear sister.",
    "No one would have believed in the last years of the nineteenth century that this world was being watched keenly "
    "and closely by intelligences greater than our own; that as men busied themselves they were scrutinised closely.",
)


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    device: torch.device
    dtypes: tuple[str, ...]
    batches: tuple[int, ...]
    frames: int
    repeats: int
    threads: int


@dataclass
class Turns:
    """What a peer did with one batch size, turn after turn; remark: why there is nothing."""

    spoken: list[Spoken] = field(default_factory=list)
    remark: str | None = None

    @property
    def seconds(self) -> float:
        """Median seconds of the whole batch."""
        return statistics.median(turn.seconds for turn in self.spoken)

    @property
    def first_s(self) -> float:
        """Median seconds to the first sound over all texts and turns."""
        return statistics.median(first for turn in self.spoken for first in turn.first_s)


def compare(folder: Path, plan: Plan) -> Iterator[Row]:
    """The rows of all peers, dtype by dtype."""
    for dtype in plan.dtypes:
        turns = {(peer, batch): Turns() for batch in plan.batches for peer in PEERS}
        with ExitStack() as stack:
            running = dict(_start(folder, plan, dtype, turns, stack))
            for batch in plan.batches:
                _take_turns(running, batch, plan, turns)
        for batch in plan.batches:
            for peer in PEERS:
                yield _row(peer, dtype, batch, plan.frames, turns)


def _start(
    folder: Path, plan: Plan, dtype: str, turns: dict[tuple[str, int], Turns], stack: ExitStack
) -> Iterator[tuple[str, PeerProcess]]:
    """Load those that can run here, one after the other; of the others the reason is noted."""
    for peer in PEERS:
        try:
            if peer == "faster" and plan.device.type != "cuda":
                raise PeerFailed("needs a GPU")
            process = PeerProcess(peer, folder, str(plan.device), dtype, plan.threads)
            stack.callback(process.close)
            process.wait_until_ready()
            yield peer, process
        except PeerFailed as error:
            _note(peer, error, [turns[peer, batch] for batch in plan.batches])


def _take_turns(running: dict[str, PeerProcess], batch: int, plan: Plan, turns: dict[tuple[str, int], Turns]) -> None:
    """A short turn to warm up, then everybody `repeats` times, one after the other."""
    warm_up = min(4, plan.frames)
    for turn in range(-1, plan.repeats):
        job = Job(list(TEXTS[:batch]), warm_up if turn < 0 else plan.frames, seed=turn + 1)
        for peer in [peer for peer in running if turns[peer, batch].remark is None]:
            if peer == "faster" and batch > 1:
                turns[peer, batch].remark = "has no batch"
                continue
            try:
                spoken = running[peer].speak(job)
                _check(peer, job, spoken)
            except PeerFailed as error:
                _note(peer, error, [turns[peer, batch]])
                continue
            if turn >= 0:
                turns[peer, batch].spoken.append(spoken)
                print(f"{NAMES[peer]:>20}  batch {batch}  {spoken.seconds:8.2f} s, first {min(spoken.first_s):7.3f} s")


def _note(peer: str, error: PeerFailed, missed: Iterable[Turns]) -> None:
    """Note why a peer has no figures; without ours there is nothing to compare, and `error` is raised."""
    if peer == "ours":
        raise error
    print(f"{NAMES[peer]}: {error}", file=sys.stderr)
    for turns in missed:
        turns.spoken.clear()
        turns.remark = str(error).partition("\n")[0]


def _check(peer: str, job: Job, spoken: Spoken) -> None:
    """Raises PeerFailed unless every text became as much sound as was asked for."""
    if spoken.frames != [job.frames] * len(job.texts):
        raise PeerFailed(f"{NAMES[peer]} made {spoken.frames} frames where {job.frames} were asked for: not comparable")


def _row(peer: str, dtype: str, batch: int, frames: int, turns: dict[tuple[str, int], Turns]) -> Row:
    own, official = turns[peer, batch], turns["official", batch]
    row: Row = {"peer": NAMES[peer], "dtype": dtype, "batch": batch, "frames": frames, "remark": own.remark}
    row["series"] = f"{NAMES[peer]}, {dtype}"
    if not own.spoken:
        return row
    made = sum(own.spoken[0].frames)
    row |= {
        "utterance_s": own.seconds,
        "first_audio_s": own.first_s,
        "frames_per_s": made / own.seconds,
        "audio_s_per_s": made * FRAME_S / own.seconds,
        "turns_s": [turn.seconds for turn in own.spoken],
    }
    if official.spoken:
        row["times_official"] = official.seconds / own.seconds
        row["first_audio_of_official_utterance_ratio"] = own.first_s / official.seconds
    return row


def chart_of(name: str, plan: Plan) -> Chart:
    """Throughput, first audio and the ratio to the official package."""
    batch, texts = "batch", "texts at once"
    official = (1.0, "the official package")
    return Chart(
        f"Peers, {name}, {plan.frames} frames ({plan.frames * FRAME_S:.1f} s) each",
        (
            Panel("throughput", batch, ("audio_s_per_s",), texts, "audio (s/s)", "bars", by="series"),
            Panel("first audio", batch, ("first_audio_s",), texts, "time (s)", "bars", by="series"),
            Panel("speed", batch, ("times_official",), texts, "ratio", "bars", by="series", line=official),
        ),
    )


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmark peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    checkpoints.add_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="default float32,bfloat16")
    parser.add_argument("--batches", default="1,8", help="texts spoken at once, at most 8 (default 1,8)")
    parser.add_argument("--frames", type=int, help="length of every utterance in frames of 80 ms (default 50)")
    parser.add_argument("--repeats", type=int, help="turns of each peer; the median counts (default 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of every peer's torch")
    parser.add_argument("--quick", action="store_true", help="shorter utterances, fewer turns: minutes on a CPU")
    parser.add_argument("--smoke", action="store_true", help="only to see that it works: seconds on the demo")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"), help="folder of the results")
    return parser.parse_args(arguments)


def _plan(options: argparse.Namespace) -> Plan:
    """Raises ValueError for a batch there are not enough texts for."""
    batches = tuple(int(part) for part in options.batches.split(","))
    if not all(1 <= batch <= len(TEXTS) for batch in batches):
        raise ValueError(f"a batch must be from 1 to {len(TEXTS)}, got {options.batches}")
    frames, repeats = (4, 1) if options.smoke else (16, 2) if options.quick else (50, 3)
    return Plan(
        device=device_named(options.device),
        dtypes=("float32",) if options.smoke else tuple(options.dtypes.split(",")),
        batches=batches,
        frames=options.frames or frames,
        repeats=options.repeats or repeats,
        threads=1 if options.smoke else options.threads,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when its results are written, 1 when a peer failed, 2 when it could not start."""
    options = _arguments(arguments)
    try:
        plan = _plan(options)
        with checkpoints.chosen(options, plan.device) as measured:
            rows = list(compare(measured.folder, plan))
    except PeerFailed as error:
        print(f"benchmark peers: {error}", file=sys.stderr)
        return 1
    except (LoadError, ValueError) as error:
        print(f"benchmark peers: {error}", file=sys.stderr)
        return 2
    _write(measured.name, plan, rows, options.out)
    return 0


def _write(name: str, plan: Plan, rows: Sequence[Row], out: Path) -> None:
    settings = {"checkpoint": name, **vars(plan), "device": str(plan.device), "sampling": "the checkpoint's defaults"}
    chart = chart_of(f"{name}, {plan.device.type}", plan)
    for path in write(Results(f"peers-{name}-{plan.device.type}", settings, COLUMNS, list(rows)), out, chart):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
