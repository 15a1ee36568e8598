"""`python -m frontend`: settings from the environment, one server until SIGTERM or SIGINT."""

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys

from frontend.app import create_app
from frontend.doors import Doors
from frontend.metrics import Metrics
from frontend.registry import SessionRegistry
from frontend.server import Drain, open_listener, serve
from frontend.settings import Settings, SettingsError, load
from frontend.trace_export import start_export
from frontend.triton import TritonSpeech
from frontend.triton_pool import TritonPool


def main() -> int:
    """The exit status: 2 for unusable settings, 1 for a taken address."""
    parser = argparse.ArgumentParser(prog="frontend", description="Serve speech over WebSocket and HTTP.")
    parser.add_argument("--check", action="store_true", help="only say whether the settings can be used")
    options = parser.parse_args()
    try:
        settings = load()
        doors = Doors.of(settings)
    except SettingsError as error:
        print(f"frontend: {error}", file=sys.stderr)
        return 2
    if options.check:
        return 0
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        listener = open_listener(settings.host, settings.port)
    except OSError as error:
        print(f"frontend: cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    _search_for_garbage_seldom()
    metrics = Metrics()
    try:
        stop_metrics = metrics.serve(settings.host, settings.metrics_port) if settings.metrics_port else None
    except OSError as error:
        print(f"frontend: cannot listen on {settings.host}:{settings.metrics_port}: {error.strerror}", file=sys.stderr)
        return 1
    stop_traces = start_export()
    asyncio.run(_run(settings, doors, listener, metrics))
    for stop in (stop_metrics, stop_traces):
        if stop is not None:
            stop()
    return 0


def _search_for_garbage_seldom() -> None:
    """A search holds up every stream, and what is spoken and over leaves next to nothing to find.

    What was imported stays and is not looked at again. A socket that is left does leave a circle of some 500 objects:
    about a thousand of them are worth one search through everything.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 5, 20)


async def _run(settings: Settings, doors: Doors, listener: socket.socket, metrics: Metrics) -> None:
    registry = SessionRegistry()
    drain = Drain(registry, settings.drain_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain.signal)
    servers = {url: _triton(url, settings) for url in settings.triton_addresses}
    speech = TritonPool(servers) if len(servers) > 1 else servers.popitem()[1]
    try:
        await serve(create_app(settings, speech, registry, doors, metrics), settings, listener, drain)
    finally:
        await speech.close()


def _triton(url: str, settings: Settings) -> TritonSpeech:
    return TritonSpeech(
        url,
        settings.model,
        balanced=settings.triton_balanced,
        describe_timeout_s=settings.describe_timeout_s,
        accept_s=settings.accept_s,
        probe_s=settings.probe_s,
        stall_s=settings.stall_s,
    )


if __name__ == "__main__":
    sys.exit(main())
