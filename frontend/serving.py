"""The task of one request of protocol v2, from its turn to its terminal: spoken, refused, or failed.

It knows neither the socket nor the other requests.
"""

import asyncio
import logging
from collections.abc import Callable

from frontend import events_v2 as events
from frontend.errors import InferenceFailed, LoadFailed, NotReady, Overloaded, SpeechError, TooManyRequests
from frontend.lanes import Data
from frontend.readiness import Readiness
from frontend.settings import Settings
from frontend.speaking import Speaking
from frontend.spoken import Spoken
from frontend.synthesis import Speech

log = logging.getLogger(__name__)


class Serving:
    """Serves requests of one socket; `put` says something at once, `fail` ends the socket for a reason."""

    def __init__(
        self,
        speech: Speech,
        readiness: Readiness,
        settings: Settings,
        put: Callable[..., None],
        fail: Callable[[str], None],
    ) -> None:
        self._speech = speech
        self._readiness = readiness
        self._settings = settings
        self._put = put
        self._fail = fail
        self.hurry = asyncio.Event()
        """Set when what is spoken should be over as soon as may be."""

    async def serve(self, spoken: Spoken) -> None:
        """Returns when the last words about it are on their way, which a cancel until then takes back."""
        try:
            description = await self._readiness.require()
            await Speaking(spoken, self._speech, description, self._settings, self._put, self.hurry).run()
            last_words: list[Data] = []
        except SpeechError as failure:
            spoken.failed(failure)
            if _casts_doubt(failure):
                self._readiness.doubt()
            last_words = [_failure(spoken, failure)]
            if isinstance(failure, LoadFailed):
                self._end_at_once(spoken, last_words, "the model could not be loaded")
        except Exception as defect:  # the root of this task: a defect of ours is told to the client
            spoken.failed(defect)
            log.exception("request failed request=%.64r", spoken.request_id)
            spoken.reason = "failed"
            text = "the server failed while it spoke this text"
            last_words = [events.error(events.INTERNAL, text, spoken.request_id, accepted=True)]
            self._end_at_once(spoken, last_words, "internal error")
        if spoken.refused and not spoken.settled.is_set():
            self._put(*last_words)
            spoken.settled.set()
        elif not spoken.settled.is_set():
            spoken.lane.put(lambda: spoken.terminal(*last_words))
            await spoken.settled.wait()

    def _end_at_once(self, spoken: Spoken, last_words: list[Data], reason: str) -> None:
        """Says the last words before the end of the socket takes them back."""
        spoken.lane.drop()
        if spoken.refused:
            self._put(*last_words)
            spoken.settled.set()
        else:
            self._put(*spoken.terminal(*last_words))
        self._fail(reason)


def _casts_doubt(failure: SpeechError) -> bool:
    """Whether a dead model would have caused this."""
    limited = isinstance(failure, Overloaded | TooManyRequests)
    return isinstance(failure, InferenceFailed | NotReady) and not limited


def _failure(spoken: Spoken, failure: SpeechError) -> str:
    """The error that tells of it; before the client was told anything about the request, it is a refusal."""
    spoken.refused = not spoken.announced and not isinstance(failure, InferenceFailed)
    spoken.reason = "refused" if spoken.refused else "failed"
    retry_ms = failure.retry_after_ms if isinstance(failure, Overloaded | TooManyRequests) else None
    code, accepted = events.code_of(failure), not spoken.refused
    return events.error(code, str(failure), spoken.request_id, accepted=accepted, retry_after_ms=retry_ms)
