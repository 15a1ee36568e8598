"""Whether an utterance would be served now, proved by asking the model itself.

Triton goes on calling a model ready whose process has died, so only an answered describe request counts.
It knows neither Triton's words nor who asks.
"""

import asyncio
import logging

from frontend.errors import LoadFailed, NotReady, SpeechError
from frontend.synthesis import Description, ModelState, Speech

log = logging.getLogger(__name__)


class Readiness:
    """Polls the model and remembers the last answer; belongs to one event loop."""

    def __init__(self, speech: Speech, *, period_s: float, fresh_s: float) -> None:
        self._speech = speech
        self._period_s = period_s
        self._fresh_s = fresh_s
        self._polling = asyncio.Lock()
        self._polled_at = -float("inf")
        self._answered_at = -float("inf")
        self._failure: LoadFailed | NotReady | None = NotReady("the model was not asked yet")
        self.description: Description | None = None

    @property
    def well(self) -> bool:
        """Whether the last question was answered. May be asked by any thread."""
        return self._failure is None

    async def watch(self) -> None:
        """Asks every period, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            async with self._polling:
                await self._poll()
            await asyncio.sleep(max(0.0, begun + self._period_s - loop.time()))

    async def require(self) -> Description:
        """The description of a model that answered just now. Raises NotReady or LoadFailed.

        A fresh answer is taken as it is; otherwise the model is asked once for all who wait.
        """
        asked_at = asyncio.get_running_loop().time()
        if asked_at - self._answered_at > self._fresh_s or self._failure is not None:
            async with self._polling:
                if self._polled_at < asked_at:
                    await self._poll()
        if self._failure is not None:
            raise type(self._failure)(str(self._failure), detail=self._failure.detail)
        assert self.description is not None
        return self.description

    def doubt(self) -> None:
        """Makes the next question a real one: an utterance has just failed in a way that a dead model would cause."""
        self._answered_at = -float("inf")

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        before = self._failure
        try:
            self._failure = await self._ask()
        except Exception:  # the root of the watch, which nobody waits for: it would end unseen
            self._failure = NotReady("the server failed while it asked the model")
            log.exception("a question to the model has failed by a defect")
        if self._failure is None:
            self._answered_at = loop.time()
        if _whole(before) != _whole(self._failure):
            self._tell()
        # Only now, since a poll that was cancelled has learnt nothing.
        self._polled_at = begun

    def _tell(self) -> None:
        if self._failure is not None:
            log.warning("not ready: %s", _whole(self._failure))
        elif self.description is not None:
            log.info("ready: %s", self.description.label)

    async def _ask(self) -> LoadFailed | NotReady | None:
        """Why the model does not answer; None when it does."""
        try:
            self.description = await self._speech.describe()
        except SpeechError as silence:
            return await self._cause(silence)
        return None

    async def _cause(self, silence: SpeechError) -> LoadFailed | NotReady:
        try:
            status = await self._speech.model_status()
        except NotReady as unreachable:
            return unreachable
        if status.state is ModelState.FAILED:
            return LoadFailed("the model could not be loaded", detail=status.reason)
        if status.state is ModelState.LOADING:
            return NotReady("the model is loading")
        if status.state is ModelState.ABSENT:
            return NotReady("the model is not loaded")
        return NotReady("the model does not answer", detail=_whole(silence))


def _whole(failure: SpeechError | None) -> str:
    """All that is known of it, in one line; for those who run the server."""
    if failure is None:
        return ""
    return ": ".join(" ".join(part.split()) for part in (str(failure), failure.detail) if part)
