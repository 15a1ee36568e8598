"""What waits to be written to a socket of protocol v2: messages first, then a lane for each utterance in turn.

Many tasks put, one writer takes. It knows nothing of sockets or of what is written.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from frontend.outbox import OutboxFull

Data = str | bytes
# What to write, made when its turn comes; several pieces are written with nothing between them.
Parcel = Callable[[], Sequence[Data]]


class Lanes:
    """All that waits for one writer."""

    def __init__(self, max_messages: int) -> None:
        self._max_messages = max_messages
        self._begun: deque[Data] = deque()
        self._messages: deque[Data] = deque()
        self._filled_lanes: deque[Lane] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, *pieces: Data) -> None:
        """Adds messages that overtake all lanes and are not torn apart. Raises OutboxFull."""
        if len(self._messages) + len(pieces) > self._max_messages:
            raise OutboxFull(f"{len(self._messages)} messages wait to be sent, the limit is {self._max_messages}")
        self._messages.extend(pieces)
        self._changed()

    def lane(self, max_audio_s: float) -> "Lane":
        """A new lane that holds so much audio at most."""
        return Lane(self, max_audio_s)

    async def take(self) -> Data:
        """The next thing to write. For one writer only."""
        while True:
            if self._begun or self._messages:
                taken = (self._begun or self._messages).popleft()
                self._changed()
                return taken
            if self._filled_lanes:
                lane = self._filled_lanes.popleft()
                self._begun.extend(lane.take())
                if lane.filled:
                    self._filled_lanes.append(lane)
                continue
            self._filled.clear()
            await self._filled.wait()

    async def emptied(self) -> None:
        """Returns when everything has been taken or forgotten."""
        await self._empty.wait()

    def close(self) -> None:
        """Forgets everything; nobody will take it any more."""
        self._begun.clear()
        self._messages.clear()
        for lane in tuple(self._filled_lanes):
            lane.drop()
        self._changed()

    def turn(self, lane: "Lane") -> None:
        """For lanes: gives a lane its place among the others, or takes it away."""
        if not lane.filled:
            if lane in self._filled_lanes:
                self._filled_lanes.remove(lane)
        elif lane not in self._filled_lanes:
            self._filled_lanes.append(lane)
        self._changed()

    def _changed(self) -> None:
        if self._begun or self._messages or self._filled_lanes:
            self._filled.set()
            self._empty.clear()
        else:
            self._empty.set()


class Lane:
    """The way out of one utterance: its audio and what must not overtake that."""

    def __init__(self, lanes: Lanes, max_audio_s: float) -> None:
        self._lanes = lanes
        self._max_audio_s = max_audio_s
        self._parcels: deque[tuple[float, Parcel]] = deque()
        self._audio_s = 0.0
        self._room = asyncio.Event()

    @property
    def filled(self) -> bool:
        return bool(self._parcels)

    async def put_audio(self, seconds: float, parcel: Parcel) -> None:
        """Adds audio of that duration once there is room for it."""
        while self._audio_s and self._audio_s + seconds > self._max_audio_s:
            self._room.clear()
            await self._room.wait()
        self._audio_s += seconds
        self._add(seconds, parcel)

    def put(self, parcel: Parcel) -> None:
        """Adds what goes behind all audio that waits."""
        self._add(0.0, parcel)

    def take(self) -> Sequence[Data]:
        """For the writer's side: the next parcel, opened."""
        seconds, parcel = self._parcels.popleft()
        self._audio_s = self._audio_s - seconds if self._parcels else 0.0
        self._room.set()
        return parcel()

    def drop(self) -> None:
        """Forgets all that waits; nothing of it will be written any more."""
        self._parcels.clear()
        self._audio_s = 0.0
        self._room.set()
        self._lanes.turn(self)

    def _add(self, seconds: float, parcel: Parcel) -> None:
        self._parcels.append((seconds, parcel))
        self._lanes.turn(self)
