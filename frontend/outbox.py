"""What waits to be written to one socket: messages first, then audio in order, both bounded.

Many tasks put, one writer takes. It knows nothing of sockets or of what the messages mean.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field


class OutboxFull(Exception):
    """More messages wait than a client that reads could leave unread."""


@dataclass(eq=False)
class Sent:
    """How much audio of one utterance was given to the writer, in bytes, and when the first came (loop time)."""

    pcm_bytes: int = 0
    first_at: float | None = None


@dataclass(frozen=True)
class _Audio:
    pcm: bytes
    sent: Sent


@dataclass(frozen=True)
class _Last:
    text: str
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class Outbox:
    """Two lanes for one writer; only audio makes its producer wait."""

    def __init__(self, max_audio_bytes: int, max_messages: int) -> None:
        self._max_audio_bytes = max_audio_bytes
        self._max_messages = max_messages
        self._messages: deque[str] = deque()
        self._audio: deque[_Audio | _Last] = deque()
        self._audio_bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, text: str) -> None:
        """Adds a message that overtakes waiting audio. Raises OutboxFull."""
        if len(self._messages) >= self._max_messages:
            raise OutboxFull(f"{len(self._messages)} messages wait to be sent, the limit is {self._max_messages}")
        self._messages.append(text)
        self._added()

    async def put_audio(self, pcm: bytes, sent: Sent) -> None:
        """Adds audio once there is room for it; `sent` is counted up when the writer takes it."""
        while self._audio_bytes and self._audio_bytes + len(pcm) > self._max_audio_bytes:
            self._room.clear()
            await self._room.wait()
        self._audio.append(_Audio(pcm, sent))
        self._audio_bytes += len(pcm)
        self._added()

    def put_last(self, text: str) -> asyncio.Event:
        """Adds a message behind the waiting audio; the event is set when the writer has taken it."""
        last = _Last(text)
        self._audio.append(last)
        self._added()
        return last.taken

    def drop_audio(self) -> None:
        """Forgets the audio lane, a last message in it included; nothing of it will be written any more."""
        self._audio.clear()
        self._audio_bytes = 0
        self._room.set()
        self._settle()

    def close(self) -> None:
        """Forgets everything; nobody will take it any more."""
        self._messages.clear()
        self.drop_audio()

    async def take(self) -> str | bytes:
        """The next thing to write. For one writer only."""
        while not self._messages and not self._audio:
            self._filled.clear()
            await self._filled.wait()
        taken = self._messages.popleft() if self._messages else self._take_audio()
        self._settle()
        return taken

    async def emptied(self) -> None:
        """Returns when everything has been taken or forgotten."""
        await self._empty.wait()

    def _take_audio(self) -> str | bytes:
        item = self._audio.popleft()
        if isinstance(item, _Last):
            item.taken.set()
            return item.text
        self._audio_bytes -= len(item.pcm)
        self._room.set()
        if item.sent.first_at is None:
            item.sent.first_at = asyncio.get_running_loop().time()
        item.sent.pcm_bytes += len(item.pcm)
        return item.pcm

    def _added(self) -> None:
        self._filled.set()
        self._empty.clear()

    def _settle(self) -> None:
        if not self._messages and not self._audio:
            self._empty.set()
