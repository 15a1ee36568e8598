"""Puts each time of the engine's benchmark beside its floor, and says how the whole is drawn. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import floors
from benchmarks.charts import Chart, Panel
from benchmarks.floors import Work
from benchmarks.parts import PARTS
from benchmarks.rates import DeviceRates
from benchmarks.tables import Row
from benchmarks.timing import Timing
from tts_engine.checkpoint import Checkpoint

FRAME_S = 0.08
COLUMNS = ("what", "batch", "length", "measured_ms", "floor_ms", "ratio", "bound", "real_time_factor", "audio_s_per_s")
_STEP = "frame step"


@dataclass(frozen=True)
class _Entry:
    """A measured time, and the work behind it, phase after phase, each in its dtype."""

    row: Row
    phases: tuple[tuple[Work, torch.dtype], ...]


class Report:
    """Collects times while they are measured; floors follow when the device's rates are known. known: see prefill."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, known: int, *, mixed_codec: bool) -> None:
        """mixed_codec: no part of it can be faster than it would be in bfloat16, which is its floor then."""
        self._model, self._codec, self._dtype, self._known = checkpoint.model, checkpoint.codec, dtype, known
        self._wide = torch.promote_types(dtype, torch.float32)
        self._codec_dtype = torch.bfloat16 if mixed_codec else self._wide
        self._entries: list[_Entry] = []

    def step(self, batch: int, context: int, timing: Timing) -> None:
        """A whole frame step."""
        seconds = timing.median_ms / 1e3
        speed = {"real_time_factor": seconds / FRAME_S, "audio_s_per_s": batch * FRAME_S / seconds}
        self._add(_STEP, batch, context, timing, tuple(self._phases(batch, context).values()), speed)

    def part(self, part: str, batch: int, context: int, timing: Timing) -> None:
        """One of PARTS; it also stands in its step's row."""
        self._add(part, batch, context, timing, (self._phases(batch, context)[part],), {})
        for entry in self._entries:
            if entry.row["what"] == _STEP and entry.row["batch"] == batch:
                entry.row[f"{part}_ms"] = timing.median_ms

    def prefill(self, batch: int, length: int, timing: Timing) -> None:
        """Prompts that come at once."""
        self._add("prefill", batch, length, timing, (self._prefill(batch, length),), {})

    def first_frame(self, what: str, batch: int, length: int, timing: Timing) -> None:
        """From request to first frame; the work is that of reading the prompts and of one step."""
        phases = (self._prefill(batch, length), *self._phases(batch, length).values())
        self._add(what, batch, length, timing, phases, {})

    def rows(self, rates: DeviceRates) -> list[Row]:
        """All rows, with floors and ratios."""
        return [_beside_floor(entry, rates) for entry in self._entries]

    def _prefill(self, batch: int, length: int) -> tuple[Work, torch.dtype]:
        return floors.prefill(self._model, batch, length, self._known, self._dtype.itemsize), self._dtype

    def _phases(self, batch: int, context: int) -> dict[str, tuple[Work, torch.dtype]]:
        size = self._dtype.itemsize
        return {
            "talker": (floors.talker_step(self._model, batch, context, size), self._dtype),
            "predictor": (floors.predictor_frame(self._model, batch, size), self._dtype),
            "sampling": (floors.sampling(self._model, batch), self._wide),
            "codec": (floors.codec_frame(self._codec, batch, self._codec_dtype.itemsize), self._codec_dtype),
        }

    def _add(
        self,
        what: str,
        batch: int,
        length: int,
        timing: Timing,
        phases: tuple[tuple[Work, torch.dtype], ...],
        more: dict[str, Any],
    ) -> None:
        row = {"what": what, "batch": batch, "length": length, "measured_ms": timing.median_ms}
        self._entries.append(_Entry({**row, "best_ms": 1e3 * timing.best, **more}, phases))
        print(f"{what:>24}  batch {batch:<4} length {length:<4} {timing.median_ms:10.3f} ms", flush=True)


def _beside_floor(entry: _Entry, rates: DeviceRates) -> Row:
    floor = 1e3 * sum(work.seconds(rates.of(dtype)) for work, dtype in entry.phases)
    row = {**entry.row, "floor_ms": floor, "ratio": entry.row["measured_ms"] / floor}
    if len(entry.phases) == 1:
        [(work, dtype)] = entry.phases
        row["bound"] = work.bound(rates.of(dtype))
    return row


def remarks(rows: Sequence[Row]) -> list[str]:
    """What is wrong with rows that lie below their floor."""
    below = sum(row["ratio"] < 1 for row in rows)
    if not below:
        return []
    return [
        f"Of the times, {below} lie below their floor: something else was at work while the device was looked at. "
        "These figures are worth nothing; measure again on an idle machine."
    ]


def chart_of(name: str, rows: Sequence[Row]) -> Chart:
    """Step beside its floor, the parts upon each other, throughput, prompts, first frames."""
    step = {"what": _STEP}
    kinds = sorted({row["what"] for row in rows if row["what"].startswith("first frame")}, reverse=True)
    both, batch = ("measured_ms", "floor_ms"), "batch (utterances)"
    parts = tuple(f"{part}_ms" for part in PARTS)
    most = max((row["batch"] for row in rows if row["what"] == "prefill"), default=1)
    prompts = f"reading {most} prompts at once" if most > 1 else "reading a prompt"
    prefill = {"what": "prefill", "batch": most}
    frame, requests = "frame step (80 ms of audio)", "requests at once"
    firsts = [Panel(kind, "batch", both, requests, "time (ms)", "bars", where={"what": kind}) for kind in kinds]
    return Chart(
        f"Engine, {name}",
        (
            Panel(frame, "batch", both, batch, "time (ms)", where=step, log_x=True, log_y=True),
            Panel("parts of a frame step", "batch", parts, batch, "time (ms)", "stacked", where=step),
            Panel("throughput", "batch", ("audio_s_per_s",), batch, "audio (s/s)", where=step, log_x=True),
            Panel(prompts, "length", both, "prompt (positions)", "time (ms)", where=prefill),
            *firsts,
        ),
    )
