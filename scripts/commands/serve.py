"""scripts/serve: one command from a checkpoint to a WebSocket URL, until Ctrl-C.

Reads the options, makes the plan and turns signals into stops; everything else is done elsewhere.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commands import CommandFailed
from commands.checkpoint import WORDS_FOR_DEMO, Checkpoint, choose_checkpoint
from commands.frontend_server import FrontendAddress, require_usable_settings
from commands.ports import Wanted, require_free
from commands.stack import Stack, StackPlan
from commands.triton_installation import find_installation
from commands.triton_server import HOST, TritonPorts

REPOSITORY = Path(__file__).resolve().parents[2]
LOGS = REPOSITORY / ".cache" / "logs"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="serve",
        description="Serve Qwen3-TTS over a WebSocket.",
        epilog="Keys and limits are environment variables, FRONTEND_*: docs/operations.md.",
    )
    host, port = os.environ.get("FRONTEND_HOST") or "127.0.0.1", os.environ.get("FRONTEND_PORT") or "8080"
    parser.add_argument("--model", help="a checkpoint directory, a Hugging Face id, or demo")
    parser.add_argument("--host", default=host, help="the frontend's address (default: $FRONTEND_HOST, else 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=port, help="the frontend's port (default: $FRONTEND_PORT, else 8080)"
    )
    parser.add_argument("--triton-http-port", type=int, default=8000, help="(default: %(default)s)")
    parser.add_argument("--triton-grpc-port", type=int, default=8001, help="(default: %(default)s)")
    parser.add_argument("--triton-metrics-port", type=int, default=8002, help="(default: %(default)s)")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: $QWEN3_TTS_DEVICE, else auto)")
    parser.add_argument("--voices", type=Path, help="a directory (default: $QWEN3_TTS_VOICES, else voices/)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        require_free(
            [
                Wanted(options.host, options.port, "--port"),
                Wanted(HOST, options.triton_http_port, "--triton-http-port"),
                Wanted(HOST, options.triton_grpc_port, "--triton-grpc-port"),
                Wanted(HOST, options.triton_metrics_port, "--triton-metrics-port"),
            ]
        )
        environment = _environment(options)
        require_usable_settings(FrontendAddress(options.host, options.port), environment)
        with tempfile.TemporaryDirectory(prefix="qwen3-tts-") as workspace:
            checkpoint = choose_checkpoint(options.model, os.environ, REPOSITORY / "models", Path(workspace))
            asyncio.run(serve(_plan(options, environment, checkpoint, Path(workspace))))
    except CommandFailed as failure:
        print(f"serve: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def serve(plan: StackPlan) -> None:
    """Runs the stack until the first SIGINT or SIGTERM; the next one cuts the ending short.

    Raises CommandFailed when the stack fails.
    """
    stack = Stack(plan)
    running = asyncio.create_task(stack.run(lambda description: _announce(plan, description)))
    _on_signals(running.cancel, stack.kill)
    try:
        await running
    except asyncio.CancelledError:
        print("serve: stopping; once more Ctrl-C ends it at once", flush=True)
    finally:
        await stack.stop()
    print("serve: stopped", flush=True)


def _on_signals(first: Callable[[], object], later: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    actions = iter([first])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: next(actions, later)())


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """The environment of both servers, but for the checkpoint."""
    chosen: dict[str, str] = {}
    if options.device is not None:
        chosen["QWEN3_TTS_DEVICE"] = options.device
    if options.voices is not None:
        if not options.voices.is_dir():
            raise CommandFailed(f"--voices {options.voices}: no such directory")
        chosen["QWEN3_TTS_VOICES"] = str(options.voices.resolve())
    voices = chosen.get("QWEN3_TTS_VOICES") or os.environ.get("QWEN3_TTS_VOICES") or str(REPOSITORY / "voices")
    return {"FRONTEND_VOICES": voices, **os.environ, **chosen}


def _plan(
    options: argparse.Namespace, environment: Mapping[str, str], checkpoint: Checkpoint, workspace: Path
) -> StackPlan:
    LOGS.mkdir(parents=True, exist_ok=True)
    print(f"serve: loading {checkpoint.directory}", flush=True)
    return StackPlan(
        installation=find_installation(workspace),
        repository=REPOSITORY / "model_repository",
        frontend=FrontendAddress(options.host, options.port),
        triton=TritonPorts(options.triton_http_port, options.triton_grpc_port, options.triton_metrics_port),
        log=LOGS / f"triton-{options.triton_grpc_port}.log",
        environment={**environment, "QWEN3_TTS_MODEL": str(checkpoint.directory)},
    )


def _announce(plan: StackPlan, description: Mapping[str, Any]) -> None:
    url = plan.frontend.websocket_url
    if description["untrained_demo"]:
        print(f"serve: this is {WORDS_FOR_DEMO}", flush=True)
    print(f"serve: ready, {description['model']} on {description['device']}, at {url}", flush=True)
    print(f'serve: try: scripts/speak "Hello there." --url {url} --out hello.wav', flush=True)


if __name__ == "__main__":
    sys.exit(main())
