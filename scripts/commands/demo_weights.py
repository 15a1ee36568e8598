"""Random tensors written straight into safetensors files, with memory bounded by one block of rows.

A tensor's values depend on the seed, its name and the kind of device that draws them, never on which other
tensors a file has. It knows nothing about what the tensors mean.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from commands.demo_layout import Pin, TensorSpec

DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}
BLOCK_VALUES = 1 << 24


def _bytes(spec: TensorSpec, dtype: torch.dtype) -> int:
    return math.prod(spec.shape) * dtype.itemsize


def _set(block: torch.Tensor, pin: Pin, first_row: int) -> None:
    """Sets the pinned cells of a block whose first row is the tensor's row `first_row`."""
    rows = pin.rows or range(first_row, first_row + len(block))
    inside = slice(max(rows.start - first_row, 0), max(rows.stop - first_row, 0))
    if pin.columns is None:
        block[inside] = pin.value
    else:
        block[inside, pin.columns.start : pin.columns.stop] = pin.value


def drawn_blocks(spec: TensorSpec, seed: int, device: str) -> Iterator[torch.Tensor]:
    """The tensor's values (rows, *rest) float32 on `device`, a block of rows at a time."""
    digest = hashlib.sha256(f"{seed}/{spec.name}".encode()).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    rows, rest = spec.shape[0], spec.shape[1:]
    step = max(1, BLOCK_VALUES // math.prod(rest))
    for start in range(0, rows, step):
        count = min(step, rows - start)
        block = torch.randn((count, *rest), generator=generator, device=device)
        block.mul_(spec.fill.std).add_(spec.fill.mean)
        if spec.fill.zero_sum:
            block -= block.mean(dim=-1, keepdim=True)
        for pin in spec.fill.pins:
            _set(block, pin, start)
        yield block


def _header(specs: Sequence[TensorSpec], dtype: torch.dtype) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for spec in specs:
        end = offset + _bytes(spec, dtype)
        entries[spec.name] = {
            "dtype": DTYPE_NAMES[dtype],
            "shape": list(spec.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text


def write_file(path: Path, specs: Sequence[TensorSpec], dtype: torch.dtype, seed: int, device: str) -> None:
    """Writes one safetensors file with the tensors in the order given."""
    with path.open("wb") as file:
        file.write(_header(specs, dtype))
        for spec in specs:
            for block in drawn_blocks(spec, seed, device):
                raw = block.to(dtype).cpu().flatten().view(torch.uint8)
                file.write(raw.numpy().data)


def _shards(specs: Sequence[TensorSpec], dtype: torch.dtype, limit: int) -> list[list[TensorSpec]]:
    shards: list[list[TensorSpec]] = [[]]
    size = 0
    for spec in specs:
        if shards[-1] and size + _bytes(spec, dtype) > limit:
            shards.append([])
            size = 0
        shards[-1].append(spec)
        size += _bytes(spec, dtype)
    return shards


def write_sharded(
    folder: Path, specs: Sequence[TensorSpec], dtype: torch.dtype, seed: int, device: str, limit: int
) -> None:
    """Writes model.safetensors, or shards of at most `limit` bytes with their index when it would be larger."""
    shards = _shards(specs, dtype, limit)
    if len(shards) == 1:
        write_file(folder / "model.safetensors", specs, dtype, seed, device)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / name, shard, dtype, seed, device)
        places |= {spec.name: name for spec in shard}
    total = sum(_bytes(spec, dtype) for spec in specs)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
