"""The one line the log gets about an utterance when it has ended, and the trace it belongs to.

key=value, everything worth knowing but the text. Knows no logger and no Triton.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import TtsError
from .metrics import Course
from .request import Outcome, Speak

# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace, parent, flags; later versions may say more.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True)
class Trace:
    """Where in a distributed trace a request belongs: 32 and 16 hexadecimal digits."""

    trace_id: str
    parent_id: str

    @classmethod
    def read(cls, parameters: Mapping[str, object]) -> Trace | None:
        """From the W3C header `traceparent` among the parameters of a request; what does not follow the standard is
        to be ignored, says the standard.
        """
        headers = {name.lower(): value for name, value in parameters.items()}
        found = _TRACEPARENT.fullmatch(str(headers.get("traceparent", "")))
        return None if found is None else cls(found[1], found[2])


def ended_line(outcome: Outcome, speak: Speak, trace: Trace | None) -> str:
    """About an utterance that was taken in."""
    course = Course.of(outcome)
    return _line(
        "utterance",
        trace,
        {
            "utterance": speak.utterance,
            "voice": outcome.info.get("voice"),
            "reason": outcome.reason,
            "error": None if outcome.error is None else type(outcome.error).__name__,
            "frames": course.frames,
            "queue_s": course.queue_s,
            "first_audio_s": course.first_audio_s,
            "total_s": course.total_s,
            "rtf": None if course.ratio is None else round(course.ratio, 3),
        },
    )


def refused_line(error: TtsError, trace: Trace | None) -> str:
    """About a request that never became an utterance."""
    return _line("refused", trace, {"error": type(error).__name__, "message": str(error)})


def _line(what: str, trace: Trace | None, facts: Mapping[str, object]) -> str:
    told = {"trace": trace and trace.trace_id, "parent": trace and trace.parent_id, **facts}
    return " ".join([what, *(f"{key}={_value(value)}" for key, value in told.items())])


def _value(value: object) -> str:
    # Names need quotes only where they would break the line apart.
    plain = isinstance(value, str) and re.fullmatch(r"[\w.:-]+", value, re.ASCII) is not None
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
