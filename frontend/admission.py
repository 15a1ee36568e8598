"""How much each caller may have at once, and how much all of them: sockets, characters, utterances.

Refuses early and says when to come back, instead of letting callers wait where none can see the end.
It knows callers by a name and an address only, and neither messages nor the web framework.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from frontend.errors import NotReady, Overloaded, TooManyRequests
from frontend.rate_limit import TokenBucket

# Weight of the latest utterance in the mean duration, and the mean before there was one.
LATEST = 0.1
FIRST_GUESS_S = 3.0
SHORTEST_RETRY_MS, LONGEST_RETRY_MS = 100, 10_000
MAX_BUCKETS = 10_000


@dataclass(frozen=True)
class Limits:
    """Per account: sockets, utterances, characters per second and at once. Per address: sockets."""

    sockets_per_account: int
    sockets_per_address: int
    utterances_per_account: int
    characters_per_s: float
    character_burst: int


class Admission:
    """Counts what is in use in this process; belongs to one event loop.

    `capacity` gives the utterances that the model takes, running and waiting, or None while that is not known.
    """

    def __init__(self, limits: Limits, capacity: Callable[[], int | None]) -> None:
        self._limits = limits
        self._capacity = capacity
        self._sockets: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._utterances: Counter[str] = Counter()
        self._characters: dict[str, TokenBucket] = {}
        self._mean_s = FIRST_GUESS_S

    @property
    def in_use(self) -> int:
        """Utterances that are being made or wait at the model."""
        return self._utterances.total()

    @contextmanager
    def socket(self, account: str, address: str) -> Iterator[None]:
        """A place for one socket within the block. Raises TooManyRequests."""
        limits = self._limits
        # Without a key the account is the address, and one limit is enough.
        if account != address and self._sockets[account] >= limits.sockets_per_account:
            raise self._too_many_sockets("key", limits.sockets_per_account)
        if self._addresses[address] >= limits.sockets_per_address:
            raise self._too_many_sockets("address", limits.sockets_per_address)
        with _counted(self._sockets, account), _counted(self._addresses, address):
            yield

    def spend(self, account: str, characters: int) -> None:
        """Takes characters from the account's allowance. Raises TooManyRequests."""
        now = asyncio.get_running_loop().time()
        bucket = self._bucket(account, now)
        if not bucket.take(now, characters):
            retry_ms = _retry_ms(bucket.wait_s(now, characters))
            rate = f"{self._limits.characters_per_s:g} characters per second"
            raise TooManyRequests(f"more text than {rate} was asked for", retry_ms)

    async def spend_slowly(self, account: str, characters: int) -> None:
        """Takes characters from the account's allowance once it has them."""
        loop = asyncio.get_running_loop()
        wait_s = self._bucket(account, loop.time()).wait_s(loop.time(), characters)
        while wait_s > 0:  # others spend from it meanwhile
            await asyncio.sleep(wait_s)
            wait_s = self._bucket(account, loop.time()).wait_s(loop.time(), characters)
        self._bucket(account, loop.time()).take(loop.time(), characters)

    @contextmanager
    def utterance(self, account: str) -> Iterator[None]:
        """A place for one utterance within the block. Raises TooManyRequests, Overloaded."""
        self.require_place(account)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with _counted(self._utterances, account):
            try:
                yield
            except NotReady:
                raise  # it was not made, so it took no time
            except BaseException:
                self._took(loop.time() - begun)
                raise
            self._took(loop.time() - begun)

    def _took(self, seconds: float) -> None:
        self._mean_s += LATEST * (seconds - self._mean_s)

    def require_place(self, account: str) -> None:
        """Returns when one more utterance would be taken now. Raises TooManyRequests, Overloaded."""
        limit = self._limits.utterances_per_account
        if self._utterances[account] >= limit:
            retry_ms = _retry_ms(self._mean_s / limit)
            raise TooManyRequests(f"{limit} utterances of this caller are being made, which is the limit", retry_ms)
        capacity = self._capacity()
        if capacity is not None and self.in_use >= capacity:
            retry_ms = _retry_ms(self._mean_s / max(1, self.in_use))
            raise Overloaded(f"{self.in_use} utterances are being made or wait, the limit is {capacity}", retry_ms)

    def _bucket(self, account: str, now: float) -> TokenBucket:
        bucket = self._characters.get(account)
        if bucket is None:
            if len(self._characters) >= MAX_BUCKETS:
                self._characters = {key: used for key, used in self._characters.items() if not used.is_full(now)}
            bucket = TokenBucket(self._limits.characters_per_s, self._limits.character_burst, now)
            self._characters[account] = bucket
        return bucket

    def _too_many_sockets(self, of: str, limit: int) -> TooManyRequests:
        return TooManyRequests(f"{limit} connections of this {of} are open, which is the limit", _retry_ms(1.0))


@contextmanager
def _counted(counter: Counter[str], name: str) -> Iterator[None]:
    counter[name] += 1
    try:
        yield
    finally:
        counter[name] -= 1
        if not counter[name]:
            del counter[name]


def _retry_ms(wait_s: float) -> int:
    return min(LONGEST_RETRY_MS, max(SHORTEST_RETRY_MS, math.ceil(wait_s * 1000)))
