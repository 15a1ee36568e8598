"""How long the model has sent nothing to one who waits for it, and what is done about that.

A dead model just falls silent: its stream stays open for ever. It knows neither gRPC nor what is sent.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from frontend.errors import BackendDied, SpeechError, Stalled
from frontend.synthesis import Description

log = logging.getLogger(__name__)

PROBES_TO_DIE = 2


class Silence:
    """The silence of one utterance. A watch beside the reading costs nothing for each response, as a deadline would."""

    def __init__(self, end: Callable[[], object]) -> None:
        """end: ends the reading; why stands in `failure` then."""
        self._end = end
        self._since: float | None = None
        self._loop = asyncio.get_running_loop()
        self.failure: SpeechError | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block something is waited for; silence of one who is not listened to does not count."""
        self._since = self._loop.time()
        try:
            yield
        finally:
            self._since = None

    async def watch(
        self, describe: Callable[[], Awaitable[Description]], instance: str, probe_s: float, stall_s: float
    ) -> None:
        """Asks the model for its description after each `probe_s` of silence; returns when it has ended the reading.

        describe: asks the server that speaks. instance: of the model that took the utterance in. stall_s: silence
        after which even a living model is given up.
        """
        try:
            await self._watch(describe, instance, probe_s, stall_s)
        except Exception:  # the root of its task: unwatched, a dead model would never be noticed
            log.exception("the watch over an utterance has failed")
            self._end()

    async def _watch(
        self, describe: Callable[[], Awaitable[Description]], instance: str, probe_s: float, stall_s: float
    ) -> None:
        unanswered, asked_at, asked_in = 0, 0.0, self._since
        while self.failure is None:
            now, since = self._loop.time(), self._since
            if since != asked_in:
                unanswered, asked_at, asked_in = 0, 0.0, since
            wait_s = probe_s if since is None else max(since, asked_at) + probe_s / (1 + 4 * unanswered) - now
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            failure: SpeechError | None = None
            try:
                description = await describe()
            except SpeechError as unwell:
                unanswered += 1
                if unanswered >= PROBES_TO_DIE:
                    failure = BackendDied(f"the model fell silent and does not answer: {unwell}")
            else:
                unanswered = 0
                if description.instance != instance:
                    failure = BackendDied("the model was loaded anew while it made this utterance")
            asked_at = self._loop.time()
            if failure is None and since is not None and asked_at - since >= stall_s:
                failure = Stalled(f"the model sent nothing for {stall_s:g} s")
            if failure is not None and self._since == since:
                self.failure = failure
                self._end()
