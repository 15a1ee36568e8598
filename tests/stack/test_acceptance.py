"""A model with a single slot: whoever asks is told at once that he was taken in, long before his turn and his sound."""

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from commands.ports import free_ports
from commands.triton_installation import find_installation
from commands.triton_server import HOST, TritonPorts, server_command
from frontend.errors import NotReady
from frontend.synthesis import Chunk, SpeechRequest
from frontend.triton import TritonSpeech
from tests.conftest import REPOSITORY, Figure
from tests.stack.conftest import ENVIRONMENT
from tests.stack.scaled import Server
from tests.stack.speaking import Pcm, stream
from tests.stack.test_cancel import LONG

pytestmark = pytest.mark.stack

START_LIMIT_S, LIMIT_S = 90.0, 20.0
TEXT = "Me too."
ACCEPT_S = 1.0
WAIT_S = 3 * ACCEPT_S
SIZES = {"slots": ("0", "1"), "max_wait_seconds": ("30", "0"), "parked_mb": ("1024", "0")}


@pytest.fixture(scope="module")
def address(greedy_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Triton whose model has one slot, keeps who has it there to the end, and lets anyone wait for it."""
    folder = tmp_path_factory.mktemp("narrow")
    models = Path(shutil.copytree(REPOSITORY / "model_repository", folder / "model_repository"))
    config = models / "qwen3_tts" / "config.pbtxt"
    text = config.read_text()
    for key, (shipped, wanted) in SIZES.items():
        (line,) = [line for line in text.splitlines() if f'key: "{key}"' in line]
        text = text.replace(line, line.replace(f'"{shipped}"', f'"{wanted}"'))
    config.write_text(text)
    installation, prefix = find_installation(folder), f"qwen3_tts_{uuid.uuid4().hex[:12]}_"
    environment = {**os.environ, **ENVIRONMENT, "QWEN3_TTS_MODEL": str(greedy_checkpoint)}
    ports = TritonPorts(*free_ports(3))
    command = [*server_command(installation, models, ports, prefix), "--load-model=qwen3_tts"]

    def start() -> "subprocess.Popen[bytes]":
        with (folder / "triton.log").open("wb") as log:
            return subprocess.Popen(
                command,
                env=installation.environment(environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    server = Server(start, prefix)
    try:
        yield f"{HOST}:{ports.grpc}"
    finally:
        server.kill()


@pytest.fixture
async def triton(address: str) -> AsyncIterator[TritonSpeech]:
    speech = TritonSpeech(address, "qwen3_tts", describe_timeout_s=5, accept_s=ACCEPT_S, probe_s=0.5, stall_s=60)
    async with asyncio.timeout(START_LIMIT_S):
        while True:
            try:
                description = await speech.describe()
                break
            except NotReady:
                await asyncio.sleep(0.05)
    assert description.details["limits"]["slots"] == 1
    yield speech
    await speech.close()


async def holding_the_slot(speech: TritonSpeech, begun: asyncio.Event) -> None:
    async with aclosing(speech.speak(SpeechRequest(LONG * 4))) as chunks:
        async for _ in chunks:
            begun.set()


async def chunks_of(speech: TritonSpeech) -> tuple[float, list[Chunk]]:
    """Of an utterance of the frontend's: how long the first took, and all of them."""
    asked, first, chunks = time.monotonic(), 0.0, []
    async with aclosing(speech.speak(SpeechRequest(TEXT))) as speaking:
        async for chunk in speaking:
            first = first or time.monotonic()
            chunks.append(chunk)
    return first - asked, chunks


async def first_response(address: str, **wishes: Any) -> tuple[float, Pcm, dict[str, Any] | None]:
    """Of an utterance asked of Triton itself: how long it took, its sound and its info. The rest is not listened to."""

    async def request() -> AsyncIterator[dict[str, Any]]:
        yield {"text": TEXT, **wishes}

    asked = time.monotonic()
    async with aclosing(stream(address, request())) as responses:
        pcm, told = await anext(responses)
        return time.monotonic() - asked, pcm, told


async def test_one_who_waits_for_a_slot_does_not_count_as_unanswered(
    triton: TritonSpeech, address: str, figure: Figure
) -> None:
    """Whoever did not ask to be told has sound in the first response, by which perf_analyzer measures."""
    begun = asyncio.Event()
    holder = asyncio.create_task(holding_the_slot(triton, begun))
    await asyncio.wait_for(begun.wait(), LIMIT_S)
    heard = asyncio.create_task(chunks_of(triton))
    unasked = asyncio.create_task(first_response(address))
    told_s, pcm, told = await asyncio.wait_for(first_response(address, acknowledge=True), LIMIT_S)
    await asyncio.wait({heard, unasked}, timeout=WAIT_S)
    instance = (await triton.describe()).instance
    holder.cancel()
    heard_s, chunks = await asyncio.wait_for(heard, LIMIT_S)
    unasked_s, sound, _ = await asyncio.wait_for(unasked, LIMIT_S)
    figure("stack: told of being taken in, then heard", f"after {1000 * told_s:.0f} ms, after {heard_s:.1f} s")
    assert (len(pcm), told) == (0, {"accepted": True, "instance": instance})
    assert told_s < ACCEPT_S < WAIT_S <= min(heard_s, unasked_s)
    assert chunks[0].pcm, "the notice is no chunk"
    assert chunks[-1].info is not None
    assert chunks[-1].info["reason"] == "complete"
    assert len(sound) > 0


async def test_one_who_is_refused_is_not_told_that_he_was_taken_in(triton: TritonSpeech, address: str) -> None:
    _, pcm, told = await first_response(address, acknowledge=True, voice="nobody")
    assert told is not None
    assert (len(pcm), told["error"]["code"]) == (0, "NOT_FOUND")
