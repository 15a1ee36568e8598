"""A random checkpoint in the layout of the released Qwen3-TTS models, so that everything runs without weights.

Tiny by default, in the released dimensions on request. The voice it makes is noise; its config.json says so with
"untrained_demo". It is written from the layout alone and imports no model code, neither ours nor anyone else's.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from commands.demo_codec_config import CODEC_PREPROCESSOR, codec_config
from commands.demo_codec_layout import codec_tensors
from commands.demo_config import GENERATION, checkpoint_config
from commands.demo_durations import with_durations
from commands.demo_layout import main_tensors
from commands.demo_tokenizer import demo_tokenizer, write_tokenizer
from commands.demo_weights import write_file, write_sharded

MODEL_TYPES = ("base", "custom_voice", "voice_design")
SIZES = ("0b6", "1b7")
SHARD_BYTES = 2_000_000_000
# Audio of rms about 0.1.
OUTPUT_GAIN = 0.04


class DemoCheckpointError(Exception):
    """The checkpoint cannot be made as asked; the message is one line for the user."""


def _check(out: Path, model_type: str, size: str, speakers: Mapping[str, int] | None) -> None:
    if model_type not in MODEL_TYPES:
        raise DemoCheckpointError(f"type {model_type!r} is not one of {', '.join(MODEL_TYPES)}")
    if size not in SIZES:
        raise DemoCheckpointError(f"size {size!r} is not one of {', '.join(SIZES)}")
    if speakers is not None and model_type != "custom_voice":
        raise DemoCheckpointError(f"type {model_type!r} has no speaker table; speakers need custom_voice")
    for name, talker_id in (speakers or {}).items():
        if not 2048 <= talker_id <= 3071:
            raise DemoCheckpointError(f"speaker {name!r}: id {talker_id} is not between 2048 and 3071")
    if out.exists() and not out.is_dir():
        raise DemoCheckpointError(f"{out} exists and is not a directory")
    if out.is_dir() and any(out.iterdir()):
        raise DemoCheckpointError(f"{out} exists and is not empty")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_codec(folder: Path, seed: int, full_size: bool, device: str) -> None:
    folder.mkdir()
    config = codec_config(full_size)
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", CODEC_PREPROCESSOR)
    _write_json(folder / "configuration.json", {"framework": "pytorch", "task": "feature-extraction"})
    tensors = codec_tensors(config, OUTPUT_GAIN)
    write_file(folder / "model.safetensors", tensors, torch.float32, seed, device)


def write_demo_checkpoint(
    out: Path,
    *,
    model_type: str = "custom_voice",
    size: str = "0b6",
    seed: int = 0,
    full_size: bool = False,
    speakers: Mapping[str, int] | None = None,
    device: str = "cpu",
) -> Path:
    """Writes a random checkpoint into `out` (made if missing) and returns `out`.

    `speakers` replaces the table of named voices, as a fine-tuned model has it: name to talker id in the released
    numbering (2048 to 3071), moved down with the codebook when tiny. The same arguments give the same bytes.
    A failure leaves `out` empty.

    Raises DemoCheckpointError when `out` is not an empty or missing directory, or an argument is not known.
    """
    _check(out, model_type, size, speakers)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = demo_tokenizer(full_size)
    config = checkpoint_config(model_type, size, full_size, tokenizer.named_ids, speakers)
    try:
        _write_json(out / "generation_config.json", GENERATION)
        write_tokenizer(tokenizer, out)
        tensors = with_durations(main_tensors(config), config)
        write_sharded(out, tensors, torch.bfloat16, seed, device, SHARD_BYTES)
        _write_codec(out / "speech_tokenizer", seed, full_size, device)
        _write_json(out / "config.json", config)  # last: what has it is whole
    except BaseException:
        _empty(out)
        raise
    return out


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make_demo_model", description="Write a random Qwen3-TTS checkpoint: the real layout, no training."
    )
    parser.add_argument("out", type=Path, help="directory to write; must be missing or empty")
    parser.add_argument("--type", dest="model_type", choices=MODEL_TYPES, default="custom_voice")
    parser.add_argument("--size", choices=SIZES, default="0b6")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full-size", action="store_true", help="the released dimensions (2.5 or 4.5 GB)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = _arguments(argv)
    # A tiny checkpoint is drawn on the CPU everywhere, so that one seed names one model.
    device = "cuda" if given.full_size and torch.cuda.is_available() else "cpu"
    try:
        write_demo_checkpoint(
            given.out,
            model_type=given.model_type,
            size=given.size,
            seed=given.seed,
            full_size=given.full_size,
            device=device,
        )
    except (DemoCheckpointError, OSError) as error:
        print(f"make_demo_model: {error}", file=sys.stderr)
        return 1
    print(f"{given.out}: {given.model_type} {given.size}, seed {given.seed}, untrained")
    return 0


if __name__ == "__main__":
    sys.exit(main())
