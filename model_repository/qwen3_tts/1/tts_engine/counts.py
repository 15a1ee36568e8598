"""What the engine counts for metrics. Knows nothing of what it counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Statistics:
    """Who is there now, and counts since the engine was made. Written by the engine, read by any thread.

    active: utterances in a slot; parked: set aside with sound in hand; waiting: for their first slot.
    refused: turned away because too many were there. underruns: frames that left after their listener had run out
    of sound. steps, step_seconds_total: frame steps and the time they took, with the prompts read
    right before them; step_seconds: the last one's.
    """

    active: int = 0
    parked: int = 0
    waiting: int = 0
    frames: int = 0
    utterances: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    underruns: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    step_seconds_total: float = 0.0
