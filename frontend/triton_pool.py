"""Speech made by several servers: each utterance goes to the least busy one that lives, and stays there.

A server that fails is passed over until it describes itself again, which it is asked less and less often. It knows
its servers as makers of speech only, not what stands behind them.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from frontend.errors import BackendDied, NotReady, Overloaded, SpeechError, Unanswered
from frontend.synthesis import Chunk, Description, ModelState, ModelStatus, Speech, SpeechRequest

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 8.0
# The better state of two servers is that of both, since one that works is enough.
STATES = (ModelState.READY, ModelState.LOADING, ModelState.FAILED, ModelState.ABSENT)
SUMMED = ("active", "waiting")
SUMMED_LIMITS = ("slots", "max_waiting")


class ClosableSpeech(Speech, Protocol):
    """A maker of speech that holds connections."""

    async def close(self) -> None: ...


@dataclass(eq=False)
class _Server:
    """One server, what it is doing for us, and what it last said of itself."""

    name: str
    speech: ClosableSpeech
    utterances: int = 0
    description: Description | None = None
    failure: SpeechError | None = None
    pause_s: float = 0.0
    ask_again_at: float = 0.0
    asking: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        """Learns whether the server lives."""
        try:
            description = await self.speech.describe()
        except SpeechError as failure:
            self.fail(failure)
        else:
            if self.failure is not None:
                log.info("server back address=%s", self.name)
            self.description, self.failure, self.pause_s = description, None, 0.0

    def fail(self, failure: SpeechError) -> None:
        """Passes the server over, and sets when it is asked again."""
        if self.failure is None:
            log.warning("server passed over address=%s reason=%s", self.name, type(failure).__name__)
        self.failure = failure
        pause_s = self.pause_s or FIRST_PAUSE_S
        self.ask_again_at = asyncio.get_running_loop().time() + pause_s
        self.pause_s = min(LAST_PAUSE_S, 2 * pause_s)


class TritonPool:
    """Implements frontend.synthesis.Speech over several others. Made and used within one event loop."""

    def __init__(self, servers: Mapping[str, ClosableSpeech]) -> None:
        self._servers = [_Server(name, speech) for name, speech in servers.items()]

    async def close(self) -> None:
        """Ends every stream that is still open."""
        asking = [server.asking for server in self._servers if server.asking is not None]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await asyncio.gather(*(server.speech.close() for server in self._servers))

    async def speak(
        self, request: SpeechRequest, more: AsyncIterator[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """As Speech.speak, by one server. Another is tried only while nothing was heard and no text can be lost.

        Of live text none is given away before it was taken in.
        """
        left = [server for server in self._servers if server.failure is None] or list(self._servers)
        while True:
            server = self._least_busy(left)
            left.remove(server)
            begun = False
            server.utterances += 1
            try:
                async with aclosing(server.speech.speak(request, more)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except (NotReady, BackendDied) as failure:
                if not isinstance(failure, Overloaded):
                    server.fail(failure)
                can_be_lost = more is not None and not isinstance(failure, Unanswered)
                if begun or can_be_lost or not left:
                    raise
            finally:
                server.utterances -= 1

    async def describe(self) -> Description:
        """One description of all that live, as if they were one larger server. Raises as Speech.describe."""
        asked = [server for server in self._servers if server.failure is None] or self._servers
        for server in self._servers:
            if server not in asked:
                self._ask_aside(server)
        await asyncio.gather(*(server.ask() for server in asked))
        living = [server.description for server in self._servers if server.failure is None and server.description]
        if not living:
            raise next(server.failure for server in self._servers if server.failure is not None)
        return _together(living)

    async def model_status(self) -> ModelStatus:
        """The best state of any server. Raises NotReady when none can be reached."""
        asked = (server.speech.model_status() for server in self._servers)
        told = await asyncio.gather(*asked, return_exceptions=True)
        statuses = [status for status in told if isinstance(status, ModelStatus)]
        if not statuses:
            raise next(failure for failure in told if isinstance(failure, BaseException))
        return min(statuses, key=lambda status: STATES.index(status.state))

    def _least_busy(self, servers: list[_Server]) -> _Server:
        chosen = min(servers, key=lambda server: server.utterances)
        # Behind all others, so that equally busy servers take turns.
        self._servers.remove(chosen)
        self._servers.append(chosen)
        return chosen

    def _ask_aside(self, server: _Server) -> None:
        """Asks a failed server, if it is time, without letting the living wait for its answer."""
        due = asyncio.get_running_loop().time() >= server.ask_again_at
        if due and (server.asking is None or server.asking.done()):
            server.asking = asyncio.create_task(server.ask(), name=f"ask {server.name}")


def _together(descriptions: list[Description]) -> Description:
    first = descriptions[0]
    if len(descriptions) == 1:
        return first
    details = _added([description.details for description in descriptions], SUMMED)
    limits = _added([description.details.get("limits", {}) for description in descriptions], SUMMED_LIMITS)
    instance = "+".join(sorted(description.instance for description in descriptions))
    untrained = any(description.untrained_demo for description in descriptions)
    return replace(first, instance=instance, untrained_demo=untrained, details=details | {"limits": limits})


def _added(all_details: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """The first details, with those numbers of all of them."""
    sums = {key: sum(details.get(key, 0) for details in all_details) for key in keys if key in all_details[0]}
    return {**all_details[0], **sums}
