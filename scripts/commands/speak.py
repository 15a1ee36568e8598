"""`scripts/speak`: writes a text's sound as it arrives and says how fast it came.

Speaks protocol v2, or v1 with a server that knows no other; it knows neither the frontend's server nor the model.
"""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

from commands import CommandFailed
from commands.arrival import Arrival
from commands.interrupts import cancelled_by_interrupt
from commands.player import Player
from commands.recording import OUT_HELP, SAMPLE_RATE, Recording
from commands.speak_v1 import speak_v1
from commands.speech_options import CANCELLED_STATUS, add_speech_options
from frontend.client import Audio, ClientError, OldServer, SpeechClient

DEFAULT_OUT = Path("out.wav")


def main() -> int:
    """The exit status: 0 spoken, 1 failed, 130 cancelled by Ctrl-C."""
    options = _options()
    try:
        arrival = asyncio.run(_run(options))
    except (CommandFailed, ClientError) as failure:
        print(f"speak: {failure}", *getattr(failure, "__notes__", ()), sep="; ", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return CANCELLED_STATUS
    where = "" if options.out is None else f"{options.out}: "
    print(where + arrival.summary() + (" (cancelled)" if arrival.cancelled else ""))
    return CANCELLED_STATUS if arrival.cancelled else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="speak", description="Speak a text through a running server.")
    parser.add_argument("text", help="what to say; - reads it from the standard input")
    add_speech_options(parser)
    parser.add_argument("--seed", type=int, help="the same seed and text give the same speech")
    out = f"the WAV to write (default: {DEFAULT_OUT}, none with --play); {OUT_HELP}"
    parser.add_argument("--out", type=Path, help=out)
    parser.add_argument("--play", action="store_true", help="play the sound while it arrives")
    options = parser.parse_args()
    if options.out is None and not options.play:
        options.out = DEFAULT_OUT
    return options


async def _run(options: argparse.Namespace) -> Arrival:
    text = sys.stdin.read() if options.text == "-" else options.text
    names = ("voice", "language", "instructions", "seed")
    wishes = {name: value for name in names if (value := getattr(options, name)) is not None}
    async with contextlib.AsyncExitStack() as stack:
        # Looked for before connecting, so that what is missing costs no speech.
        recording = None if options.out is None else stack.enter_context(Recording(options.out))
        player = await stack.enter_async_context(Player.start(SAMPLE_RATE)) if options.play else None
        client = SpeechClient(options.url, token=options.key)
        old_server = False
        try:
            await stack.enter_async_context(client)
        except OldServer:
            old_server = True
        arrival = Arrival(recording, player)
        if old_server:
            await speak_v1(options.url, {"type": "speak", "text": text} | wishes, arrival)
        else:
            await _speak(client, text, wishes, arrival)
        if player is not None and not arrival.cancelled:
            await player.finish()
    return arrival


async def _speak(client: SpeechClient, text: str, wishes: dict[str, Any], arrival: Arrival) -> None:
    utterance = await client.speak(text, **wishes)
    with cancelled_by_interrupt(utterance.cancel):
        async for arrived in utterance:
            if isinstance(arrived, Audio):
                arrival.add(arrived.payload)
            elif arrived.type == "warning":
                print(f"speak: {arrived.fields['message']}", file=sys.stderr)
    end = utterance.audio_end
    assert end is not None, "an utterance that did not fail has ended"
    arrival.cancelled = end["cancelled"]
    arrival.generation_s = end["generation_ms"] / 1000


if __name__ == "__main__":
    sys.exit(main())
