"""How far ahead of its playing audio may be sent: a listener who interrupts should not have it all already.

It knows nothing of what is sent.
"""

import asyncio
import contextlib


class Pace:
    """Lets audio through so that at most `max_ahead_s` of it is not due yet. For one stream.

    `hurry` ends the pacing: what is made is then sent as fast as the listener takes it.
    """

    def __init__(self, max_ahead_s: float, hurry: asyncio.Event) -> None:
        self._max_ahead_s = max_ahead_s
        self._hurry = hurry
        self._played_at = 0.0

    async def wait(self, seconds: float) -> None:
        """Returns when so much more audio may go."""
        now = asyncio.get_running_loop().time()
        # Audio that came late was silence before: nothing is caught up.
        self._played_at = max(self._played_at, now) + seconds
        too_early = self._played_at - now - self._max_ahead_s
        if too_early > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(too_early):
                    await self._hurry.wait()
