"""`python -m frontend`: settings from the environment, one server until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import socket
import sys

from frontend.app import create_app
from frontend.registry import SessionRegistry
from frontend.server import Drain, open_listener, serve
from frontend.settings import Settings, SettingsError, load
from frontend.triton import TritonSpeech


def main() -> int:
    """The exit status: 2 for unusable settings, 1 for a taken address."""
    try:
        settings = load()
    except SettingsError as error:
        print(f"frontend: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        listener = open_listener(settings.host, settings.port)
    except OSError as error:
        print(f"frontend: cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    asyncio.run(_run(settings, listener))
    return 0


async def _run(settings: Settings, listener: socket.socket) -> None:
    registry = SessionRegistry()
    drain = Drain(registry, settings.drain_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain.signal)
    speech = TritonSpeech(
        settings.triton_url,
        settings.model,
        describe_timeout_s=settings.describe_timeout_s,
        probe_s=settings.probe_s,
        stall_s=settings.stall_s,
    )
    try:
        await serve(create_app(settings, speech, registry), settings, listener, drain)
    finally:
        await speech.close()


if __name__ == "__main__":
    sys.exit(main())
