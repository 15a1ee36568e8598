"""Runs the application on one listening socket until it is told to stop, and lets it finish what it speaks.

The only importer of hypercorn's server. It knows nothing of messages or models.
"""

import asyncio
import logging
import socket

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from quart import Quart

from frontend import hypercorn_parts
from frontend.registry import SessionRegistry
from frontend.settings import Settings

log = logging.getLogger(__name__)

# A larger kernel buffer would hold minutes of speech that no cancel can take back; the kernel doubles this.
SEND_BUFFER_BYTES = 128 * 1024
# The kernel itself drops a peer that acknowledges nothing for so long, also after we have given it up.
UNACKNOWLEDGED_MS = 30_000
GRACE_S = 5.0


class Drain:
    """The way out: the first signal lets running utterances finish, the second does not."""

    def __init__(self, registry: SessionRegistry, drain_s: float) -> None:
        self._registry = registry
        self._drain_s = drain_s
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self.done = asyncio.Event()

    def signal(self) -> None:
        """One more wish to stop. For the event loop's signal handlers."""
        if self._asked.is_set():
            self._hurried.set()
        self._asked.set()

    async def finished(self) -> None:
        """Returns once a stop was asked for and every session is closed; hypercorn's shutdown trigger."""
        await self._asked.wait()
        log.info("draining %d sessions for at most %g s", len(self._registry), self._drain_s)
        self._registry.start_draining()
        idle = asyncio.create_task(self._registry.all_idle())
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({idle, hurried}, timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        hurried.cancel()
        await self._registry.close_all("the server is shutting down")
        self.done.set()


def open_listener(host: str, port: int) -> socket.socket:
    """A socket bound to the address, with our send limits, which accepted sockets inherit. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


async def serve(app: Quart, settings: Settings, listener: socket.socket, drain: Drain) -> None:
    """Serves until the drain is done; takes over the listener."""
    hypercorn_parts.install()
    config = _hypercorn_config(settings, listener.detach())
    serving = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=drain.finished))
    drained = asyncio.create_task(drain.done.wait())
    try:
        await asyncio.wait({serving, drained}, return_when=asyncio.FIRST_COMPLETED)
        # A peer that never answers our close would hold hypercorn back for as long as it likes.
        async with asyncio.timeout(2 * GRACE_S):
            await serving
    except TimeoutError:
        log.warning("gave up waiting for connections that do not close")
    finally:
        drained.cancel()
        serving.cancel()


def _hypercorn_config(settings: Settings, listener: int) -> Config:
    config = Config()
    config.bind = [f"fd://{listener}"]
    config.websocket_max_message_size = settings.max_message_bytes
    config.websocket_ping_interval = 20.0
    # A silent peer answers pings, which count as reading; this bounds one that is gone.
    config.read_timeout = 600
    config.keep_alive_timeout = 75.0
    config.graceful_timeout = GRACE_S
    config.include_server_header = False
    config.loglevel = "WARNING"
    return config
