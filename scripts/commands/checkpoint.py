"""Which checkpoint directory a command works with, and whether it looks whole before anything starts on it.

What the user names is never replaced by something else; only without a name and without a hub the demo
steps in.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from commands import CommandFailed
from commands.fetch import fetch
from commands.fetch_errors import HubUnreachable
from commands.fetch_listing import Source
from commands.fetch_progress import Progress
from commands.hub_ids import DEFAULT_HUB_ID, is_hub_id

DEMO = "demo"
REQUIRED = ("config.json", "vocab.json", "merges.txt", "speech_tokenizer/config.json")
WEIGHTS = ("model.safetensors", "speech_tokenizer/model.safetensors")
WORDS_FOR_DEMO = "an UNTRAINED DEMO checkpoint: it makes noise, not speech"


@dataclass(frozen=True)
class Checkpoint:
    directory: Path
    is_untrained_demo: bool


def fetch_into(models: Path, hub_id: str) -> Path:
    """The directory in `models` with a checkpoint of the hub, fetched unless it is there. Raises FetchFailed."""
    out = models / hub_id.partition("/")[2]
    fetch(Source(hub_id), out, Progress(sys.stderr))
    return out


def choose_checkpoint(
    model: str | None,
    environment: Mapping[str, str],
    models: Path,
    workspace: Path,
    fetched: Callable[[Path, str], Path] = fetch_into,
) -> Checkpoint:
    """The checkpoint to serve: `model`, else $QWEN3_TTS_MODEL, else that in `models`, else the hub's, else a demo.

    Downloads go to `models`, a demo to `workspace`. Raises CommandFailed, saying in one line what is wrong.
    """
    name = model if model is not None else environment.get("QWEN3_TTS_MODEL") or None
    if name is not None:
        return check_checkpoint(_named(name, models, workspace, fetched))
    found = checkpoints_in(models)
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise CommandFailed(f"{models} holds {len(found)} checkpoints, choose one with --model: {listed}")
    if found:
        return check_checkpoint(found[0])
    try:
        return check_checkpoint(fetched(models, DEFAULT_HUB_ID))
    except HubUnreachable as reason:
        advice = "For speech, name a checkpoint with --model; scripts/fetch_weights fetches one."
        _shout(f"{reason}\nServing {WORDS_FOR_DEMO}.\n{advice}")
        return check_checkpoint(make_demo(workspace))


def checkpoints_in(models: Path) -> list[Path]:
    """The checkpoint directories inside `models`; hidden ones, such as unfinished downloads, are left out."""
    return sorted(config.parent for config in models.glob("[!.]*/config.json"))


def check_checkpoint(directory: Path) -> Checkpoint:
    """The checkpoint in a directory, if its files are there and undamaged as far as a quick look can tell.

    Raises CommandFailed naming the first file that is missing or cannot be read.
    """
    if not directory.is_dir():
        raise CommandFailed(f"checkpoint {directory}: no such directory")
    for name in REQUIRED:
        if not (directory / name).is_file():
            raise CommandFailed(f"checkpoint {directory}: {name} is missing")
    config = _read_json(directory / "config.json")
    for name in WEIGHTS:
        for shard in _shards(directory / name):
            _check_length(shard)
    return Checkpoint(directory.resolve(), config.get("untrained_demo") is True)


def make_demo(workspace: Path, model_type: str = "custom_voice") -> Path:
    """A new demo checkpoint inside `workspace`; model_type: as scripts/make_demo_model names it."""
    out = workspace / DEMO
    # In a process of its own, since what makes it imports torch and this process stays as long as the server.
    command = [sys.executable, "-P", "-m", "commands.demo_checkpoint", str(out), "--type", model_type]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        last_line = made.stderr.strip().rpartition("\n")[2]
        raise CommandFailed(f"the demo checkpoint could not be made: {last_line}")
    return out


def _named(name: str, models: Path, workspace: Path, fetched: Callable[[Path, str], Path]) -> Path:
    if name == DEMO:
        return make_demo(workspace)
    if Path(name).is_dir() or not is_hub_id(name):
        return Path(name)
    try:
        return fetched(models, name)
    except HubUnreachable as reason:
        raise CommandFailed(f"{name} is no directory here, and {reason}") from reason


def _shards(weights: Path) -> list[Path]:
    if weights.is_file():
        return [weights]
    index = weights.with_name(f"{weights.name}.index.json")
    if not index.is_file():
        raise CommandFailed(f"checkpoint {weights.parent}: {weights.name} is missing")
    shard_of_tensor = _read_json(index).get("weight_map")
    if not isinstance(shard_of_tensor, dict):
        raise CommandFailed(f"{index} holds no weight_map")
    return [weights.with_name(str(name)) for name in sorted(set(shard_of_tensor.values()))]


def _check_length(shard: Path) -> None:
    """Compares a safetensors file's length with the one its header promises; a broken download shows here."""
    try:
        with shard.open("rb") as content:
            header_length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(min(header_length, 100_000_000)))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            promised = 8 + header_length + max(entry["data_offsets"][1] for entry in tensors)
    except OSError as error:
        raise CommandFailed(f"{shard} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise CommandFailed(f"{shard} is not a safetensors file") from error
    if (length := shard.stat().st_size) != promised:
        raise CommandFailed(f"{shard} is damaged: it has {length} bytes, its header promises {promised}")


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandFailed(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CommandFailed(f"{path} does not hold a JSON object")
    return content


def _shout(text: str) -> None:
    bar = "!" * 78
    print("\n".join([bar, *(f"!! {line}" for line in text.splitlines()), bar]), file=sys.stderr, flush=True)
