"""The model's process dies or hangs: a client in mid-utterance hears of it, and the server comes back by itself."""

import asyncio
import json
import os
import signal
import time

import pytest
from websockets.asyncio.client import connect

from tests.conftest import Figure
from tests.stack.conftest import Render, same_sound
from tests.stack.serving import Serve, is_alive, seconds_until
from tests.stack.speaking import COMPLETE, listen, speak
from tests.stack.test_cancel import start_long_speech

pytestmark = pytest.mark.stack

BACK_LIMIT = 60.0
TEXT = "Back again."


async def test_a_killed_stub_fails_its_utterance_and_is_brought_back(
    stack: Serve, render: Render, figure: Figure
) -> None:
    frontend, lines = stack.process("-m frontend"), stack.lines_so_far
    async with connect(stack.url) as socket:
        heard = await start_long_speech(socket)
        killed = stack.stub
        os.kill(killed, signal.SIGKILL)
        killed_at = time.monotonic()
        unready = asyncio.create_task(seconds_until(lambda: stack.readiness() == 503, BACK_LIMIT))
        async with asyncio.timeout(BACK_LIMIT):
            await listen(socket, heard)
        error = json.loads(heard.terminal)
        assert (error["type"], error["code"], error["recoverable"]) == ("error", "TTS_INFERENCE_FAILED", False)
        told = heard.ended - killed_at
        await unready
        await asyncio.to_thread(stack.wait_for_line, "supervisor: the model is back", BACK_LIMIT, lines)
        await seconds_until(lambda: stack.readiness() == 200, BACK_LIMIT)
        ready = time.monotonic() - killed_at
        again = await speak(socket, TEXT)
    figure("stack: a killed stub", f"its client told after {told:.1f} s, ready again after {ready:.1f} s")
    assert again.terminal == COMPLETE
    assert same_sound(again.samples, render([{"text": TEXT}])[0])
    assert stack.stub != killed
    assert stack.process("-m frontend") == frontend


async def test_a_hung_stub_is_replaced(stack: Serve, figure: Figure) -> None:
    lines, hung = stack.lines_so_far, stack.stub
    os.kill(hung, signal.SIGSTOP)
    stopped_at = time.monotonic()
    await asyncio.to_thread(stack.wait_for_line, "supervisor: the model is back", BACK_LIMIT, lines)
    await seconds_until(lambda: stack.readiness() == 200, BACK_LIMIT)
    figure("stack: a hung stub", f"ready again after {time.monotonic() - stopped_at:.1f} s")
    assert not is_alive(hung)
    async with connect(stack.url) as socket:
        assert (await speak(socket, TEXT)).terminal == COMPLETE
