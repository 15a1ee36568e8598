"""How clients of a crowd behave on WebSockets, well and badly. Each raises Unexpected for what is not documented."""

from __future__ import annotations

import asyncio
import json

from benchmarks.soak_line import Line, open_line
from benchmarks.soak_tally import Unexpected, Visit

FORMATS = (
    {"encoding": "pcm_s16le", "sample_rate": 24000},
    {"encoding": "pcm_s16le", "sample_rate": 44100},
    {"encoding": "pcm_s16le", "sample_rate": 8000},
    {"encoding": "opus", "sample_rate": 24000},
    {"encoding": "mulaw", "sample_rate": 8000},
    {"encoding": "alaw", "sample_rate": 8000},
    {"encoding": "wav", "sample_rate": 16000},
)
MALFORMED = (
    "",
    "{",
    "[]",
    "null",
    '{"type":"sing"}',
    '{"type":"speak"}',
    '{"type":"speak","text":7}',
    '{"type":"speak","text":" "}',
    '{"type":"speak","text":"<|im_end|>"}',
    '{"type":"speak","text":"' + "x" * 6000 + '"}',
    '{"text":"' + "[" * 3000 + '"}',
)
OVERSIZED = 70_000
_BLUNT = {"INVALID_MESSAGE", "TEXT_EMPTY", "TEXT_TOO_LONG", "UNSUPPORTED_FORMAT", "TOO_MANY_REQUESTS", "TTS_NOT_READY"}


async def speaks_v1(visit: Visit) -> None:
    """Several texts in a line, most heard to their end."""
    drawn = visit.drawn
    async with open_line(visit, 1) as line:
        for _ in range(drawn.randint(1, 3)):
            await line.speak(visit.text())
        if drawn.random() < 0.3:
            await asyncio.sleep(drawn.uniform(0, 0.5))
            await line.cancel()
        await line.all_ended()
        await line.stop()


async def converses_v2(visit: Visit) -> None:
    """Several utterances on one socket: in a line, interrupting, at once, live; in any encoding."""
    drawn = visit.drawn
    framing = drawn.choice(("plain", "tagged"))
    async with open_line(visit, 2) as line:
        await line.say(type="start", protocol=2, format={**drawn.choice(FORMATS), "framing": framing})
        await line.until(lambda: line.greetings > 1)
        for _ in range(drawn.randint(1, 3)):
            modes = ("queue", "interrupt", "concurrent") if framing == "tagged" else ("queue", "queue", "interrupt")
            wishes = {"mode": drawn.choice(modes), "progress": drawn.random() < 0.2, "seed": drawn.getrandbits(32)}
            if drawn.random() < 0.4:
                await _speaks_live(visit, line, wishes)
            else:
                await line.speak(visit.text(2), **wishes)
            if drawn.random() < 0.3:
                await line.sounded()
        await line.all_ended()
        await line.stop(drain=True)


async def _speaks_live(visit: Visit, line: Line, wishes: dict[str, object]) -> None:
    """Words as a language model writes them; what ends otherwise meanwhile takes no more of them."""
    words = visit.text(2).split()
    name = await line.speak("", final=False, **wishes)
    while words:
        some, words = words[:4], words[4:]
        await line.say(type="text", request_id=name, text=" ".join(some) + " ")
        if visit.drawn.random() < 0.1:
            await line.say(type="flush", request_id=name)
        await asyncio.sleep(visit.drawn.uniform(0.05, 0.2))  # the pace of the writer is the load
    await line.say(type="end", request_id=name)
    visit.count("live")


async def cancels(visit: Visit) -> None:
    """Cancels before the first sound, while queued, while speaking, twice, and what was never asked for."""
    drawn = visit.drawn
    version = drawn.choice((1, 2))
    async with open_line(visit, version) as line:
        for _ in range(drawn.randint(1, 4)):
            names = [await line.speak(visit.text(3)) for _ in range(drawn.randint(1, 3))]
            moment = drawn.choice(("at once", "sounding", "later"))
            if moment == "sounding":
                await line.sounded()
            elif moment == "later":
                await asyncio.sleep(drawn.uniform(0, 1.0))
            which = drawn.choice(({}, {"request_id": drawn.choice(names)}, {"request_id": "nobody"}))
            for _ in range(drawn.choice((1, 1, 2))):
                await line.cancel(**which if version == 2 else {})
            if which and version == 2:
                await line.cancel()
            await line.all_ended()
        await line.stop()


async def vanishes(visit: Visit) -> None:
    """The connection is torn down in the middle of whatever is going on."""
    drawn = visit.drawn
    async with open_line(visit, drawn.choice((1, 2))) as line:
        for _ in range(drawn.randint(1, 4)):
            await line.speak(visit.text(4))
        if drawn.random() < 0.7:
            await line.sounded()
            await asyncio.sleep(drawn.uniform(0, 0.5))
        line.reset()


async def stops_reading(visit: Visit) -> None:
    """Lets its sound pile up for seconds, then hears the rest, cancels, or vanishes."""
    drawn = visit.drawn
    async with open_line(visit, drawn.choice((1, 2))) as line:
        await line.speak(visit.text(4))
        await line.sounded()
        line.stop_reading()
        await asyncio.sleep(drawn.uniform(1.0, 5.0))
        visit.count("deaf spells")
        after = drawn.choice(("hears", "cancels", "vanishes"))
        if after == "vanishes":
            return line.reset()
        if after == "cancels":
            await line.cancel()
        line.read_on()
        await line.all_ended()


async def talks_nonsense(visit: Visit) -> None:
    """Malformed messages, each refused by itself; then one that is too big, too many in a row, or good manners."""
    drawn = visit.drawn
    version = drawn.choice((1, 2))
    async with open_line(visit, version) as line:
        for number in range(1, drawn.randint(2, 6)):
            await line.send(drawn.choice(MALFORMED))
            await line.until(lambda number=number: len(line.complaints) == number)  # type: ignore[misc]
        visit.count("mistakes", len(line.complaints))
        if strange := set(line.complaints) - _BLUNT:
            raise Unexpected(f"a malformed message was answered with {sorted(strange)}")
        end = drawn.choice(("speaks", "oversized", "insists"))
        visit.count("mistakes")
        if end == "oversized":
            await line.send(json.dumps({"type": "speak", "text": "x" * OVERSIZED}))
            return await line.closed(1009)
        if end == "insists" and version == 2:
            for _ in range(12):
                await line.send("{")
            return await line.closed(1008)
        await line.speak(visit.text())
        await line.all_ended()
