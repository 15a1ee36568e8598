"""scripts/fetch_weights: a released checkpoint, or any other of the hub, complete and verified or not at all."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from commands import CommandFailed
from commands.checkpoint import check_checkpoint
from commands.fetch import fetch
from commands.fetch_errors import FetchFailed
from commands.fetch_listing import Source
from commands.fetch_progress import Progress
from commands.fetch_staging import verify
from commands.hub_ids import DEFAULT_HUB_ID, RELEASED, is_hub_id

MODELS = Path(__file__).resolve().parents[2] / "models"
INTERRUPTED = 130
EXPLANATION = f"""\
Released are {", ".join(RELEASED)}.

A branch is resolved to its commit once, and the directory stays at that commit; a full commit SHA is exact. The
directory appears when every file has arrived and has the checksum the hub names; until then everything lies in a
hidden folder beside it, and the next run goes on from there. A directory that is there already is only looked at.

The environment can say the same: CHECKPOINT_REPO, CHECKPOINT_REVISION, CHECKPOINT_DIR, HF_ENDPOINT; HF_TOKEN is for
repositories that ask for one.

exit status: 0 it is there; 1 it cannot be stored, or is no checkpoint; 2 wrong options; 3 no network, or it broke;
4 no such repository or revision, or no right to it; 5 a checksum is wrong; 6 the disk is full; 7 the directory holds
something else or is damaged; 130 or 143 interrupted.
"""


class _Terminated(KeyboardInterrupt):
    """SIGTERM. Handled, since the first process of a container is not ended by it otherwise."""


def parse(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> argparse.Namespace:
    """The options of the command line, with those of the environment under them."""
    parser = argparse.ArgumentParser(
        prog="fetch_weights",
        description="Fetch a checkpoint from the Hugging Face hub.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def given(name: str) -> str | None:
        return environment.get(name) or None

    parser.add_argument(
        "repo", nargs="?", default=given("CHECKPOINT_REPO") or DEFAULT_HUB_ID, help="owner/name (default: %(default)s)"
    )
    parser.add_argument(
        "--revision",
        default=given("CHECKPOINT_REVISION"),
        help="a commit, tag or branch (default: what the directory holds, else the newest commit)",
    )
    parser.add_argument(
        "--out", type=Path, default=given("CHECKPOINT_DIR"), help="a directory (default: models/ and the name)"
    )
    parser.add_argument("--endpoint", default=given("HF_ENDPOINT"), help="another address of the hub")
    parser.add_argument("--verify", action="store_true", help="read a directory that is there and check its checksums")
    options = parser.parse_args(arguments)
    # The hub's library would ask for //api otherwise.
    options.endpoint = options.endpoint and options.endpoint.rstrip("/")
    if not is_hub_id(options.repo):
        parser.error(f"{options.repo!r} is no repository of the form owner/name")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments, os.environ)
    signal.signal(signal.SIGTERM, _terminate)
    out = Path(options.out or MODELS / options.repo.partition("/")[2])
    try:
        listing = fetch(Source(options.repo, options.revision, options.endpoint), out, Progress(sys.stderr))
        check_checkpoint(out)
        if options.verify:
            verify(out, listing)
    except CommandFailed as failure:
        print(f"fetch_weights: {failure}", file=sys.stderr, flush=True)
        return failure.exit_status if isinstance(failure, FetchFailed) else 1
    except KeyboardInterrupt as interruption:
        print("fetch_weights: interrupted; the next run goes on from here", file=sys.stderr, flush=True)
        return 128 + signal.SIGTERM if isinstance(interruption, _Terminated) else INTERRUPTED
    print(f"{out} holds {listing}", flush=True)
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())
