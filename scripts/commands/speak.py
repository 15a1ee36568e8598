"""`scripts/speak`: a client on protocol v1 that writes the sound as it arrives and says how fast it came.

Knows only the wire: neither the frontend's code nor the model.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from commands import CommandFailed
from commands.player import Player

SAMPLE_RATE = 24_000
BYTES_PER_SAMPLE = 2
DEFAULT_URL = "ws://127.0.0.1:8080/api/v1/speak"
DEFAULT_OUT = Path("out.wav")
CANCELLED_STATUS = 130


@dataclass
class Arrival:
    """What came for one text; times are seconds since the request was sent."""

    pcm_bytes: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    cancelled: bool = False

    @property
    def duration_s(self) -> float:
        return self.pcm_bytes / BYTES_PER_SAMPLE / SAMPLE_RATE

    def add(self, pcm: bytes, after_s: float) -> None:
        if self.first_s is None:
            self.first_s = after_s
        self.last_s = after_s
        self.pcm_bytes += len(pcm)

    def summary(self) -> str:
        if self.first_s is None:
            return "no audio came"
        factor = self.last_s / self.duration_s
        first_ms = round(self.first_s * 1000)
        return f"first audio after {first_ms} ms, {self.duration_s:.2f} s of speech, real-time factor {factor:.2f}"


@contextlib.contextmanager
def wave_file(path: Path) -> Iterator[wave.Wave_write]:
    """A WAV whose header `writeframes` keeps right, so that an interrupted file plays."""
    try:
        # Unbuffered, so that what has arrived is in the file even if this process is killed.
        raw = path.open("wb", buffering=0)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None
    with raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(BYTES_PER_SAMPLE)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(b"")
        yield file


def main() -> int:
    """The exit status: 0 spoken, 1 failed, 130 cancelled by Ctrl-C."""
    options = _options()
    try:
        arrival = asyncio.run(_run(options))
    except CommandFailed as failure:
        print(f"speak: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return CANCELLED_STATUS
    where = "" if options.out is None else f"{options.out}: "
    print(where + arrival.summary() + (" (cancelled)" if arrival.cancelled else ""))
    return CANCELLED_STATUS if arrival.cancelled else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="speak", description="Speak a text through a running server.")
    parser.add_argument("text", help="what to say; - reads it from the standard input")
    parser.add_argument("--voice", help="id of a voice or name of a speaker (default: the server's)")
    parser.add_argument("--language", help="language of the text (default: found by the model)")
    parser.add_argument("--out", type=Path, help=f"the WAV to write (default: {DEFAULT_OUT}, none with --play)")
    parser.add_argument("--url", default=DEFAULT_URL, help="the server (default: %(default)s)")
    parser.add_argument("--play", action="store_true", help="play the sound while it arrives")
    options = parser.parse_args()
    if options.out is None and not options.play:
        options.out = DEFAULT_OUT
    return options


async def _run(options: argparse.Namespace) -> Arrival:
    text = sys.stdin.read() if options.text == "-" else options.text
    wishes = {"type": "speak", "text": text, "voice": options.voice, "language": options.language}
    request = {name: value for name, value in wishes.items() if value is not None}
    async with contextlib.AsyncExitStack() as stack:
        # Found before connecting, so that a missing player costs no speech.
        player = await stack.enter_async_context(Player.start(SAMPLE_RATE)) if options.play else None
        connection = await _connect(options.url)
        stack.push_async_callback(connection.close)
        file = None if options.out is None else stack.enter_context(wave_file(options.out))
        arrival = await _speak(connection, request, file, player)
        if player is not None and not arrival.cancelled:
            await player.finish()
    return arrival


async def _connect(url: str) -> ClientConnection:
    try:
        return await connect(url, compression=None, max_size=None)
    except InvalidURI:
        raise CommandFailed(f"{url} is not a WebSocket address such as {DEFAULT_URL}") from None
    except InvalidHandshake as error:
        raise CommandFailed(f"{url} did not accept the connection: {error}") from None
    except OSError as error:
        raise CommandFailed(f"cannot reach {url}: {error.strerror or error}; is the server running?") from None


async def _speak(
    connection: ClientConnection, request: dict[str, Any], file: wave.Wave_write | None, player: Player | None
) -> Arrival:
    arrival = Arrival()
    with _cancelled_by_interrupt(connection):
        try:
            await connection.send(json.dumps(request))
            begun = time.monotonic()
            async for message in connection:
                if isinstance(message, str):
                    arrival.cancelled = _ending(json.loads(message))
                    return arrival
                arrival.add(message, time.monotonic() - begun)
                if file is not None:
                    file.writeframes(message)
                if player is not None:
                    player.play(message)
        except ConnectionClosed as closed:
            raise CommandFailed(f"the connection was lost: {closed}") from None
    raise CommandFailed("the server closed the connection before the end of the speech")


def _ending(message: dict[str, Any]) -> bool:
    if message["type"] == "error":
        raise CommandFailed(f"{message['code']}: {' '.join(message['message'].split())}")
    return bool(message["cancelled"])


@contextlib.contextmanager
def _cancelled_by_interrupt(connection: ClientConnection) -> Iterator[None]:
    """Within the block the first Ctrl-C asks the server to cancel and the second ends this process."""
    loop = asyncio.get_running_loop()
    sending: set[asyncio.Task[None]] = set()

    def cancel() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        sending.add(loop.create_task(connection.send('{"type":"cancel"}')))

    loop.add_signal_handler(signal.SIGINT, cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
