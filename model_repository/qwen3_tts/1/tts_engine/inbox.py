"""What other threads may tell the engine thread, all through one queue.

A new `Utterance` and text `Appended` to one are messages too.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from .live_utterances import Appended
from .request import Utterance
from .voice_encoder import EncodedVoice


@dataclass(frozen=True)
class Cancel:
    """End an utterance."""

    utterance_id: int


@dataclass(frozen=True)
class VoiceReady:
    """The voice an utterance waits for is made, or could not be."""

    utterance_id: int
    voice: Future[EncodedVoice]


@dataclass(frozen=True)
class Failure:
    """Something outside has failed that the engine cannot serve without."""

    why: str


@dataclass(frozen=True)
class Shutdown:
    """End everybody, and the thread."""


Message = Utterance | Cancel | Appended | VoiceReady | Failure | Shutdown
