"""How long the model has sent nothing to one who waits for it, and what is done about that.

A dead model just falls silent: its stream stays open for ever. It knows neither gRPC nor what is sent.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from frontend.errors import BackendDied, SpeechError, Stalled
from frontend.synthesis import Description

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

    async def watch(self, describe: Callable[[], Awaitable[Description]], probe_s: float, stall_s: float) -> None:
        """Asks the model for its description after each `probe_s` of silence; returns when it has ended the reading.

        describe: asks the server that speaks. stall_s: silence after which even a living model is given up.
        """
        # Who speaks is learnt from the first answer: behind a balancer nobody knows before. A model that dies is not
        # loaded anew within one silence, since a new process needs longer only to import its packages.
        instance: str | None = None
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
                instance = instance or description.instance
                if description.instance != instance:
                    failure = BackendDied("the model was loaded anew while it made this utterance")
            asked_at = self._loop.time()
            if failure is None and since is not None and asked_at - since >= stall_s:
                failure = Stalled(f"the model sent nothing for {stall_s:g} s")
            if failure is not None and self._since == since:
                self.failure = failure
                self._end()
