"""Speech through the whole stack: real sockets, a real frontend, a real tritonserver, the real engine."""

import asyncio

import pytest
from websockets.asyncio.client import connect

from tests.conftest import Figure
from tests.stack.conftest import Render, same_sound
from tests.stack.serving import Serve
from tests.stack.speaking import COMPLETE, SAMPLES_PER_FRAME, Heard, ask, infer, listen, speak

pytestmark = pytest.mark.stack

TEXT = "The first words are on their way while the last ones are still being made."
TEXTS = [
    "One.",
    "Two birds on a wire.",
    "Three coins in the old fountain.",
    "Four seasons make up a year.",
    "Five fingers.",
    "Six of one, half a dozen of the other.",
    "Seven.",
    "Eight planets go round the sun.",
]


async def test_the_first_audio_comes_while_more_than_half_is_still_to_be_made(stack: Serve, figure: Figure) -> None:
    before = stack.metric("tts_frames_total")
    async with connect(stack.url) as socket:
        heard = Heard(await ask(socket, TEXT))
        await listen(socket, heard, messages=1)
        made_at_first_audio = await asyncio.to_thread(stack.metric, "tts_frames_total") - before
        await listen(socket, heard)
    frames = heard.samples.size / SAMPLES_PER_FRAME
    whole = heard.ended - heard.asked
    figure(
        "stack: first audio of an utterance",
        f"after {heard.seconds_to_first * 1000:.0f} ms of {whole * 1000:.0f} ms, "
        f"{made_at_first_audio:.0f} of {frames:.0f} frames made",
    )
    assert heard.terminal == COMPLETE
    assert made_at_first_audio <= frames / 2
    assert heard.seconds_to_first <= whole / 2


async def test_a_socket_gets_the_sound_that_render_makes(stack: Serve, render: Render) -> None:
    async with connect(stack.url) as socket:
        heard = [await speak(socket, text) for text in (TEXT, TEXTS[1])]
    assert [one.terminal for one in heard] == [COMPLETE, COMPLETE]
    rendered = render([{"text": TEXT}, {"text": TEXTS[1]}])
    assert all(map(same_sound, [one.samples for one in heard], rendered))


async def test_a_seeded_request_to_triton_gives_the_sound_that_render_makes(stack: Serve, render: Render) -> None:
    requests = [
        {"text": TEXTS[2], "seed": 7, "temperature": 0.9},
        {"text": TEXTS[2], "seed": 8, "temperature": 0.9},
    ]
    address = f"127.0.0.1:{stack.ports.triton_grpc}"
    answers = [await infer(address, request) for request in requests]
    assert [info["seed"] for _, info in answers] == [7, 8]
    sounds = [pcm for pcm, _ in answers]
    assert all(map(same_sound, sounds, render(requests)))
    assert not same_sound(*sounds)


async def test_eight_sockets_at_once_each_get_exactly_their_own_sound(
    stack: Serve, render: Render, figure: Figure
) -> None:
    async def one_socket(text: str) -> Heard:
        async with connect(stack.url) as socket:
            return await speak(socket, text)

    heard = await asyncio.gather(*map(one_socket, TEXTS))
    figure(
        "stack: first audio, eight sockets at once",
        ", ".join(f"{one.seconds_to_first * 1000:.0f} ms" for one in sorted(heard, key=lambda h: h.seconds_to_first)),
    )
    assert [one.terminal for one in heard] == [COMPLETE] * len(TEXTS)
    rendered = render([{"text": text} for text in TEXTS])
    assert [same_sound(one.samples, sound) for one, sound in zip(heard, rendered, strict=True)] == [True] * len(TEXTS)
