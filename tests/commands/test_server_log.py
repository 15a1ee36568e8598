"""Which lines of Triton's log a user sees."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from commands.server_log import follow, useful_part

STAMP = "1124 06:06:38.186829 4797"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f'E{STAMP} pb_stub.cc:714] "Failed to process"', "Failed to process"),
        (f'I{STAMP} model.py:14] "model loaded"', "model loaded"),
        ("INFO tts_engine.engine: started", "INFO tts_engine.engine: started"),
        ("ValueError: of an uncaught exception", "ValueError: of an uncaught exception"),
    ],
)
def test_errors_and_what_the_model_says_are_shown(line: str, shown: str) -> None:
    assert useful_part(line) == shown


@pytest.mark.parametrize(
    "line",
    [
        "",
        "+-----------+---------+--------+",
        "| qwen3_tts | 1       | READY  |",
        f'I{STAMP} grpc_server.cc:2558] "Started GRPCInferenceService"',
        f"I{STAMP} server.cc:604] ",
        f'W{STAMP} pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"',
        f'E{STAMP} server.cc:241] "CudaDriverHelper has not been initialized."',
        "Error: Failed to initialize NVML",
        "[INTERNAL] HandleCancellation called even when the context was not cancelled for ModelStreamInferHandler",
    ],
)
def test_descriptions_of_the_server_are_not_shown(line: str) -> None:
    assert useful_part(line) is None


async def test_a_growing_log_is_shown_line_by_whole_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "triton.log"
    log.write_text("one\ntw")
    following = asyncio.create_task(follow(log))
    shown = ""
    with log.open("a") as growing:
        async with asyncio.timeout(30):
            while "one" not in shown:
                await asyncio.sleep(0)
                shown += capsys.readouterr().out
            growing.write("o\n")
            growing.flush()
            while "two" not in shown:
                await asyncio.sleep(0)
                shown += capsys.readouterr().out
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    assert shown == "triton: one\ntriton: two\n"
