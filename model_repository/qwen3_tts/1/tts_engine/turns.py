"""Who comes in next, and who gives way: urgent listeners first, then newcomers, then the rest.

Every listener plays while the engine works. One whose sound in hand lasts a while can be set aside without hearing
of it, and its row given to somebody who needs it more. Knows no device and carries nothing out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .pace import Limits
from .request import Utterance
from .scheduler import Scheduler

RESERVE_SECONDS = 0.4
"""A listener with less sound than this in hand is urgent."""
AHEAD_SECONDS = 1.0
"""With more than this in hand one may be set aside for a newcomer."""
_FAIR_SECONDS = 0.2
# Among the urgent, one gives way to another only when so much better off: else the two would change places each step.


@dataclass(frozen=True)
class Claim:
    """`utterance` shall get a slot: a free one, or the one of who `gives_way`. Without it, that slot just empties."""

    utterance: Utterance | None
    gives_way: int | None


def next_claim(scheduler: Scheduler, limits: Limits, *, may_park: bool, now: float) -> Claim | None:
    """The next change of who runs, or None when all is well as it is.

    may_park: whether there is room for one more who is set aside.
    """
    running = scheduler.running
    # Rows that wait for text take no part in what real time allows, but nobody else could use theirs.
    width = limits.width if any(not utterance.dry for utterance in running) else scheduler.slots
    parked = min((u for u in scheduler.parked if not u.dry), key=lambda u: u.lead(now), default=None)
    if parked is not None and parked.lead(now) < RESERVE_SECONDS:
        claim = _claim_of_urgent(parked, scheduler, now)
        if claim is not None:
            return claim
    newcomer = scheduler.next_ready
    if newcomer is not None:
        if len(running) < width:
            return Claim(newcomer, None)
        listeners = sum(not u.dry for u in running) + sum(not u.dry for u in scheduler.parked)
        slot = _furthest_ahead(running, now)
        if may_park and listeners < limits.listeners and _ease(running[slot], now) >= AHEAD_SECONDS:
            return Claim(newcomer, slot)
    if parked is not None:
        if len(running) < width:
            return Claim(parked, None)
        idle = next((slot for slot, utterance in enumerate(running) if _is_idle(utterance)), None)
        if idle is not None:
            return Claim(parked, idle)
    if may_park and len(running) > width:
        slot = _furthest_ahead(running, now)
        if _ease(running[slot], now) >= AHEAD_SECONDS:
            return Claim(None, slot)
    return None


def tightest_lead(running: Iterable[Utterance], now: float) -> float:
    """Seconds until the first of those who speak has nothing left to play; infinite when nobody speaks."""
    return min((utterance.lead(now) for utterance in running if not utterance.dry), default=math.inf)


def _claim_of_urgent(parked: Utterance, scheduler: Scheduler, now: float) -> Claim | None:
    """Any free slot will do, since one row more is better than a listener without sound."""
    if len(scheduler.running) < scheduler.slots:
        return Claim(parked, None)
    slot = _furthest_ahead(scheduler.running, now)
    better_off = _ease(scheduler.running[slot], now) >= parked.lead(now) + _FAIR_SECONDS
    return Claim(parked, slot) if better_off else None


def _furthest_ahead(running: tuple[Utterance, ...], now: float) -> int:
    return max(range(len(running)), key=lambda slot: _ease(running[slot], now))


def _ease(utterance: Utterance, now: float) -> float:
    """How well one could do without its row, in seconds; nobody gives way who has not been heard yet."""
    if _is_idle(utterance):
        return math.inf
    return utterance.lead(now) if utterance.first_audio is not None else -math.inf


def _is_idle(utterance: Utterance) -> bool:
    """Whether its row does nothing but wait for text; before its first prompt is read it has none to wait for."""
    return utterance.dry and utterance.generation > 0
