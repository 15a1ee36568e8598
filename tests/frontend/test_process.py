"""`python -m frontend` as a process: it speaks through gRPC, drains on SIGTERM, and says why it cannot start."""

import asyncio
import json
import os
import signal
import socket
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.frontend.triton_double import Stream, TritonDouble, serving

FRAME = bytes(3840)
PATIENCE_S = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def started(port: int, triton: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "frontend"),
        env=os.environ | {"FRONTEND_PORT": str(port), "FRONTEND_TRITON_URL": triton},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"ready: " not in (line := await asyncio.wait_for(process.stderr.readline(), PATIENCE_S)):
        assert line, "the frontend ended before it was ready"
    return process


async def test_it_speaks_and_a_sigterm_lets_it_finish() -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(FRAME)
        await finish.wait()
        await stream.send(FRAME, {"reason": "complete"})

    finish = asyncio.Event()
    double = TritonDouble()
    double.behaviour = speak
    port = free_port()
    async with serving(double) as triton:
        process = await started(port, triton)
        async with connect(f"ws://127.0.0.1:{port}/api/v1/speak", compression=None) as client:
            await client.send('{"type":"speak","text":"Hello."}')
            assert await client.recv() == FRAME
            process.send_signal(signal.SIGTERM)
            await client.send('{"type":"sing"}')
            assert json.loads(await client.recv())["code"] == "INVALID_MESSAGE"
            finish.set()
            assert await client.recv() == FRAME
            assert json.loads(await client.recv())["cancelled"] is False
            try:
                await asyncio.wait_for(client.recv(), PATIENCE_S)
            except ConnectionClosed as closed:
                code = closed.rcvd and closed.rcvd.code
        _, log = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert (process.returncode, code) == (0, 1001)
    assert b"Traceback" not in log
    assert b'reason="complete"' in log


async def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "frontend"),
            env=os.environ | {"FRONTEND_PORT": str(port)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, log = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 1
    assert log.decode() == f"frontend: cannot listen on 127.0.0.1:{port}: Address already in use\n"
