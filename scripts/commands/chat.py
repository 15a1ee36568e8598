"""`scripts/chat`: speaks what is typed or piped into it while it is still being written, and shows it.

A pipe is one text, as long as its writer writes; at a keyboard every line is one, spoken at once.
"""

import argparse
import asyncio
import codecs
import contextlib
import sys
from pathlib import Path
from typing import Any

from commands import CommandFailed
from commands.arrival import Arrival
from commands.interrupts import cancelled_by_interrupt
from commands.player import Player
from commands.recording import OUT_HELP, SAMPLE_RATE, Recording
from commands.speech_options import CANCELLED_STATUS, add_speech_options
from frontend.client import Audio, ClientError, SpeechClient
from frontend.heard import Utterance

READ_BYTES = 4096


class Chat:
    """Text into utterances: one at a time takes text, all are heard in order."""

    def __init__(self, client: SpeechClient, wishes: dict[str, Any], arrival: Arrival) -> None:
        self._client = client
        self._wishes = wishes
        self._arrival = arrival
        self._writing: Utterance | None = None
        self._spoken: asyncio.Queue[Utterance | None] = asyncio.Queue()

    async def write(self, text: str) -> None:
        """More text; a new utterance where the last one has ended, as it does when its writer pauses for long."""
        if self._writing is None or self._writing.audio_end is not None:
            if not text.strip():
                return
            self._writing = await self._client.speak("", final=False, **self._wishes)
            self._spoken.put_nowait(self._writing)
        await self._writing.append(text)

    async def end(self) -> None:
        """The utterance that is being written is complete."""
        if self._writing is not None and self._writing.audio_end is None:
            await self._writing.end()
        self._writing = None

    async def close(self) -> None:
        """No more text will come."""
        await self.end()
        self._spoken.put_nowait(None)

    async def hear(self) -> None:
        """Returns when all has arrived. Raises ClientError."""
        while (utterance := await self._spoken.get()) is not None:
            async for arrived in utterance:
                if isinstance(arrived, Audio):
                    self._arrival.add(arrived.payload)
                elif arrived.type == "warning":
                    print(f"chat: {arrived.fields['message']}", file=sys.stderr)
            self._arrival.cancelled = utterance.audio_end is not None and utterance.audio_end["cancelled"]
            if self._arrival.cancelled:
                return


def main() -> int:
    """The exit status: 0 spoken, 1 failed, 130 cancelled by Ctrl-C."""
    options = _options()
    try:
        arrival = asyncio.run(_run(options))
    except (CommandFailed, ClientError) as failure:
        print(f"chat: {failure}", *getattr(failure, "__notes__", ()), sep="; ", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return CANCELLED_STATUS
    return CANCELLED_STATUS if arrival.cancelled else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chat", description="Speak the standard input while it is being written.")
    add_speech_options(parser)
    parser.add_argument("--out", type=Path, help=f"a WAV to write instead of playing; {OUT_HELP}")
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> Arrival:
    wishes = {name: value for name in ("voice", "language", "instructions") if (value := getattr(options, name))}
    async with contextlib.AsyncExitStack() as stack:
        recording = stack.enter_context(Recording(options.out)) if options.out else None
        player = None if options.out else await stack.enter_async_context(Player.start(SAMPLE_RATE))
        client = await stack.enter_async_context(SpeechClient(options.url, token=options.key))
        arrival = Arrival(recording, player)
        chat = Chat(client, wishes, arrival)
        with cancelled_by_interrupt(client.cancel_all):
            reading = asyncio.create_task(_read(chat, await _standard_input(), by_line=sys.stdin.isatty()))
            try:
                await chat.hear()
            finally:
                reading.cancel()
                await asyncio.wait({reading})
            if not reading.cancelled() and (failure := reading.exception()) is not None:
                raise failure
        if player is not None and not arrival.cancelled:
            await player.finish()
    return arrival


async def _read(chat: Chat, stream: asyncio.StreamReader, *, by_line: bool) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while piece := await stream.read(READ_BYTES):
            text = decoder.decode(piece)
            if not by_line:
                print(text, end="", flush=True)  # a keyboard's terminal has shown it already
            await chat.write(text)
            if by_line and text.endswith("\n"):
                await chat.end()
    finally:
        await chat.close()


async def _standard_input() -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), sys.stdin)
    return stream


if __name__ == "__main__":
    sys.exit(main())
