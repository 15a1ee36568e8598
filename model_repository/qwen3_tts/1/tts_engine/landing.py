"""What a step made, on its way from the device to the host.

On a GPU each step's results go through one of a few places of a ring: copied on a stream of their own into pinned
memory, with an event that says when they have come. Knows no network and no slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .config import CODEBOOKS, SAMPLES_PER_FRAME
from .devices import pinned

SHEET = SAMPLES_PER_FRAME + CODEBOOKS + 1
"""Numbers a row's results take as int16: its samples, its codes, and whether it ended."""


@dataclass(frozen=True)
class Frame:
    """What one step made, row by row: codes int64 (B, Q), pcm int16 (B, 1920), ended bool (B,).

    A row that has ended chose the end code: its codes and sound mean nothing; nor do those of a held row.
    """

    codes: npt.NDArray[np.int64]
    pcm: npt.NDArray[np.int16]
    ended: npt.NDArray[np.bool_]


class Arrival(Protocol):
    """When the results of a flight are on the host."""

    def wait(self) -> None:
        """Return when they are. Raises RuntimeError when later ones have taken their place."""
        ...


@dataclass(frozen=True)
class Flight:
    """A step that has been started. codes (B, Q), pcm (B, 1920) and ended (B,) lie on the host once it has arrived."""

    codes: Tensor
    pcm: Tensor
    ended: Tensor
    arrival: Arrival | None = None

    @classmethod
    def of(cls, sheet: Tensor, arrival: Arrival | None = None) -> Flight:
        """A flight whose results stand, or will stand, in a sheet (B, SHEET) on the host."""
        pcm, codes, ended = sheet.split((SAMPLES_PER_FRAME, CODEBOOKS, 1), dim=1)
        return cls(codes, pcm, ended[:, 0], arrival)

    def land(self) -> Frame:
        """Wait for the step, and hand out what it made, in memory no later step writes."""
        if self.arrival is not None:
            self.arrival.wait()
        return Frame(self.codes.numpy().astype(np.int64), self.pcm.numpy().copy(), self.ended.numpy().astype(np.bool_))


def sheet_of(codes: Tensor, pcm: Tensor, ended: Tensor) -> Tensor:
    """The results of a step as one tensor int16 (B, SHEET), so that one copy carries them. Codes are below 2^15."""
    return torch.cat((pcm, codes.to(torch.int16), ended.to(torch.int16)[:, None]), dim=1)


class Berth:
    """One place of a ring, for up to S rows: targets int64 (S,) on their way to the device, a sheet on its way back."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.targets = pinned(rows, dtype=torch.int64)
        self.sheet = torch.zeros(rows, SHEET, dtype=torch.int16, device=device)
        self.landed = pinned(rows, SHEET, dtype=torch.int16)
        self.made, self.arrived = torch.cuda.Event(), torch.cuda.Event()
        self.step = -1


@dataclass(frozen=True)
class BerthArrival:
    """The arrival of step number `step` in its berth."""

    berth: Berth
    step: int

    def wait(self) -> None:
        """Wait for the copy alone, not for what was launched after it."""
        if self.berth.step != self.step:
            raise RuntimeError(f"step {self.step} was not landed before step {self.berth.step} took its place")
        self.berth.arrived.synchronize()


class LandingRing:
    """Berths used in turn. Everything is launched on the thread's current stream but the copies to the host."""

    def __init__(self, rows: int, depth: int, device: torch.device) -> None:
        """depth: how many steps may be on their way, or landed and still being read."""
        self._berths = [Berth(rows, device) for _ in range(depth)]
        self._copies = torch.cuda.Stream(device)
        self._steps = 0

    def take(self) -> Berth:
        """The berth of the next step; waits for the step that had it, which landed long ago when steps are landed."""
        berth = self._berths[self._steps % len(self._berths)]
        berth.arrived.synchronize()
        berth.step = self._steps
        self._steps += 1
        return berth

    def send(self, berth: Berth, sheet: Tensor) -> Flight:
        """Send the sheet (B, SHEET) that the work launched so far makes; it may be overwritten by what comes after."""
        rows = sheet.shape[0]
        berth.sheet[:rows].copy_(sheet)
        berth.made.record()
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(berth.made)
            berth.landed[:rows].copy_(berth.sheet[:rows], non_blocking=True)
            berth.arrived.record()
        return Flight.of(berth.landed[:rows], BerthArrival(berth, berth.step))
