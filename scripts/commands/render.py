"""scripts/render: the engine without a server, for rendering many texts to files.

Reads one JSON object a line with the contract's input names, writes <id>.wav (and <id>.npy, the codes), and a
results.jsonl with one line per request, in order. A bad line is reported there and does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from tts_engine import (
    CODEBOOKS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    Engine,
    EngineConfig,
    InvalidRequest,
    LoadError,
    Outcome,
    Speak,
    SpokenSegment,
    TtsError,
    manifests,
)

VOICES = Path(__file__).resolve().parents[2] / "voices"

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_REFERENCE = "reference_audio"
_TEXTS = frozenset(
    ("text", "voice", "language", "instruct", "reference_text", "text_placement", "utterance", _REFERENCE)
)
_WHOLE_NUMBERS = frozenset(("reference_sample_rate", "top_k", "predictor_top_k", "seed", "max_frames"))
_FLAGS = frozenset(("text_complete", "trim_leading_silence"))


@dataclass(frozen=True)
class Rendered:
    """What one request became: int16 PCM (N,), codes int64 (T, 16), and how it ended."""

    pcm: npt.NDArray[np.int16]
    codes: npt.NDArray[np.int64]
    outcome: Outcome


class Collector:
    """A sink that keeps everything; `rendered` resolves when the utterance has ended."""

    def __init__(self) -> None:
        self.rendered: Future[Rendered] = Future()
        self._pcm: list[npt.NDArray[np.int16]] = [np.zeros(0, dtype=np.int16)]
        self._codes: list[npt.NDArray[np.int64]] = []

    def segment(self, segment: SpokenSegment) -> None:
        """Nothing to keep: the outcome lists all segments."""

    def audio(self, pcm: npt.NDArray[np.int16], codes: npt.NDArray[np.int64]) -> None:
        """Keep a frame."""
        self._pcm.append(pcm)
        self._codes.append(codes)

    def end(self, outcome: Outcome) -> None:
        """Resolve `rendered`."""
        codes = np.array(self._codes, dtype=np.int64).reshape(-1, CODEBOOKS)
        self.rendered.set_result(Rendered(np.concatenate(self._pcm), codes, outcome))


@dataclass(frozen=True)
class _Line:
    """A line that was submitted, or the reason why it was not."""

    id: str
    work: Future[Rendered] | TtsError


class Renderer:
    """Renders files of requests with one running engine into one folder."""

    def __init__(self, engine: Engine, out: Path, *, keep_codes: bool, outstanding: int) -> None:
        """outstanding: how many requests may be with the engine at once."""
        self._engine, self._out, self._keep_codes, self._outstanding = engine, out, keep_codes, outstanding
        self._ids: set[str] = set()

    def render(self, requests: Path) -> list[dict[str, object]]:
        """Render every line of `requests`; returns what was written to results.jsonl."""
        results = []
        with (self._out / "results.jsonl").open("w", encoding="utf-8") as log:
            for line in self._window(requests):
                results.append(self._finish(line))
                log.write(json.dumps(results[-1], ensure_ascii=False) + "\n")
                log.flush()
        return results

    def _window(self, requests: Path) -> Iterator[_Line]:
        """All lines in order, each after enough later ones have been submitted to keep the engine busy."""
        pending: deque[_Line] = deque()
        with requests.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    pending.append(self._submit(number, line, requests.parent))
                if len(pending) >= self._outstanding:
                    yield pending.popleft()
        yield from pending

    def _submit(self, number: int, line: bytes, folder: Path) -> _Line:
        name, collector = f"line{number}", Collector()
        try:
            values = _parse(line)
            name = self._claim(values.pop("id", name))
            _check(values)
            self._engine.submit(_speak(values, folder), collector)
        except TtsError as error:
            return _Line(name, error)
        return _Line(name, collector.rendered)

    def _claim(self, name: object) -> str:
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
            raise InvalidRequest(f"id {name!r} cannot name a file; it must match {_FILE_NAME.pattern}")
        if name in self._ids:
            raise InvalidRequest(f"id {name!r} was used on an earlier line")
        self._ids.add(name)
        return name

    def _finish(self, line: _Line) -> dict[str, object]:
        """Wait for a line, write its files and say how it went."""
        if isinstance(line.work, TtsError):
            return {"id": line.id, "reason": "failed", "error": str(line.work)}
        rendered = line.work.result()
        soundfile.write(self._out / f"{line.id}.wav", rendered.pcm, SAMPLE_RATE, subtype="PCM_16")
        if self._keep_codes:
            np.save(self._out / f"{line.id}.npy", rendered.codes)
        seconds = len(rendered.codes) * SAMPLES_PER_FRAME / SAMPLE_RATE
        result: dict[str, object] = {"id": line.id, **rendered.outcome.info, "seconds": seconds}
        if rendered.outcome.error is not None:
            result["error"] = str(rendered.outcome.error)
        return result


def _parse(line: bytes) -> dict[str, Any]:
    """One line as a JSON object. Raises InvalidRequest naming what is wrong."""
    try:
        values = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidRequest(f"a line must be a JSON object, got {type(values).__name__}")
    return values


def _check(values: dict[str, Any]) -> None:
    """Check that these are contract inputs of the right JSON types. Raises InvalidRequest naming what is wrong."""
    known = {field.name for field in fields(Speak)}
    for key, value in values.items():
        if key not in known:
            raise InvalidRequest(f"unknown key {key!r}; known: id, {', '.join(sorted(known))}")
        if value is not None and not _fits(key, value):
            raise InvalidRequest(f"{key} has a value of the wrong type: {value!r}")
    if not isinstance(values.get("text"), str):
        raise InvalidRequest("text is missing")
    if values.get("text_complete") is False:
        raise InvalidRequest("text_complete is false, but a file of requests has nobody to write more text")


def _fits(key: str, value: object) -> bool:
    if key in _FLAGS:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if key in _TEXTS:
        return isinstance(value, str)
    return isinstance(value, int) or (key not in _WHOLE_NUMBERS and isinstance(value, float))


def _speak(values: dict[str, Any], folder: Path) -> Speak:
    """The request of a parsed line; a reference is a path, relative to the file of requests."""
    if values.get(_REFERENCE) is not None:
        try:
            samples, rate = manifests.read_recording(folder / values[_REFERENCE])
        except LoadError as error:
            raise InvalidRequest(f"{_REFERENCE}: {error}") from error
        values = {**values, _REFERENCE: samples, "reference_sample_rate": rate}
    if values.get("trim_leading_silence") is None:
        values["trim_leading_silence"] = False  # what is rendered is compared and measured, not waited for
    return Speak(**values)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="render", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("requests", type=Path, help="a file with one JSON request a line")
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint directory")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the results; made if missing")
    parser.add_argument("--codes", action="store_true", help="write each utterance's codes, (T, 16) int64, too")
    parser.add_argument("--batch", type=int, default=8, help="how many utterances run together (default 8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float64")
    parser.add_argument("--voices", type=Path, default=VOICES, help="the folder of voices (default: this repository's)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when every line was rendered, 1 when some failed, 2 when nothing could start."""
    options = _arguments(arguments)
    try:
        if not options.requests.is_file():
            raise LoadError(f"the file {options.requests} does not exist")
        options.out.mkdir(parents=True, exist_ok=True)
        # Nobody listens meanwhile: a slot is kept to the end, and a long wait is no reason to refuse.
        config = EngineConfig(slots=options.batch, max_waiting=options.batch, max_wait_seconds=0, parked_mb=0)
        engine = Engine.load(options.model, config, options.voices, device=options.device, dtype=options.dtype)
    except (LoadError, OSError) as error:
        print(f"render: {error}", file=sys.stderr)
        return 2
    engine.start()
    try:
        renderer = Renderer(engine, options.out, keep_codes=options.codes, outstanding=2 * options.batch)
        results = renderer.render(options.requests)
    finally:
        engine.shutdown()
    failed = [result for result in results if "error" in result]
    for result in failed:
        print(f"render: {result['id']}: {result['error']}", file=sys.stderr)
    print(f"{len(results) - len(failed)} rendered, {len(failed)} failed; {options.out / 'results.jsonl'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
