"""Watches the model of a tritonserver that runs elsewhere, such as in a container of its own, and brings it back.

It reaches the model only through Triton, so a process of the model that hangs is left to whoever can end it.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from commands import CommandFailed
from commands.model_control import ModelControl
from commands.supervisor import Supervisor

MODEL = "qwen3_tts"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="supervise", description="Keep the model of a running Triton well.")
    parser.add_argument("--url", default="localhost:8001", help="Triton's gRPC address (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_supervise(options.url))
    except CommandFailed as failure:
        print(f"supervise: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _supervise(url: str) -> None:
    async with ModelControl(url, MODEL) as control:
        await Supervisor(control, _leave_processes).watch()


def _leave_processes() -> None:
    """The model's processes are in another container, where Triton itself ends the old one when it unloads."""


if __name__ == "__main__":
    sys.exit(main())
