"""The engine: one thread that owns the device and turns submitted requests into sound, frame by frame.

Submit, cancel and shut down are messages in one inbox, read between frames; everything else on the device happens
in the loop `_run`. Knows no Triton: requests come as `Speak`, sound leaves through a `Sink`.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import Checkpoint, load_networks
from .config import SAMPLE_RATE, SAMPLES_PER_FRAME, EngineConfig
from .devices import device_named, dtype_named
from .errors import EngineFailed, Overloaded
from .preparation import Preparation
from .request import Outcome, Reason, Sink, Speak, Utterance
from .runner import Frame, Runner
from .scheduler import Scheduler
from .voices import VoiceBook, read_manifests

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Cancel:
    utterance_id: int


@dataclass(frozen=True)
class _Shutdown:
    pass


_Message = Utterance | _Cancel | _Shutdown


@dataclass
class Statistics:
    """Counts since the engine was made, for metrics. Written by the engine thread, read by any."""

    active: int = 0
    waiting: int = 0
    frames: int = 0
    utterances: int = 0
    cancelled: int = 0
    failed: int = 0


class Engine:
    """Speaks many utterances at once on one device. `submit`, `cancel` and `describe` may be called by any thread."""

    def __init__(self, checkpoint: Checkpoint, config: EngineConfig, voices: VoiceBook, runner: Runner) -> None:
        self._checkpoint, self._config, self._voices, self._runner = checkpoint, config, voices, runner
        self._preparation = Preparation(checkpoint, config, voices)
        self._scheduler = Scheduler(config.slots)
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="tts-engine", daemon=True)
        self._admission = threading.Lock()
        self._unfinished = 0
        self._failure: str | None = "not started"
        self._placement: dict[str, object] = {}
        self.statistics = Statistics()
        self.instance = secrets.token_hex(8)

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        config: EngineConfig,
        voices: Path | None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Engine:
        """An engine with its weights on the device, not started.

        device: `auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:N`. dtype: `auto` (bfloat16 on a GPU,
        float32 on a CPU), `float32`, `bfloat16` or `float64`. Raises LoadError.
        """
        place = device_named(device)
        precision = dtype_named(dtype, place)
        files = Checkpoint.read(checkpoint)
        book = VoiceBook(files.model, read_manifests(voices), config.default_voice)
        networks = load_networks(files, place, precision)
        engine = cls(files, config, book, Runner(networks, files.model, config, place, precision))
        engine._placement = {"device": str(place), "dtype": str(precision).removeprefix("torch.")}
        return engine

    def start(self) -> None:
        """Start the engine thread; once."""
        self._failure = None
        self._thread.start()

    def submit(self, speak: Speak, sink: Sink) -> int:
        """Queue a request and return its id; its sound and end go to `sink` on the engine thread.

        Raises InvalidRequest, Unsupported, UnknownVoice, Overloaded or EngineFailed, and then never calls `sink`.
        """
        utterance = self._preparation.prepare(speak, sink)
        capacity = self._config.slots + self._config.max_waiting
        with self._admission:
            if self._failure is not None:
                raise EngineFailed(f"the engine is not running: {self._failure}")
            if self._unfinished >= capacity:
                raise Overloaded(
                    f"{self._unfinished} utterances are running or waiting; the limit is {capacity} "
                    f"({self._config.slots} slots and {self._config.max_waiting} waiting)"
                )
            self._unfinished += 1
            self._inbox.put(utterance)
        return utterance.id

    def cancel(self, utterance_id: int) -> None:
        """Ask for an utterance to end now; its sink's `end` tells when its slot is free. Unknown ids are ignored."""
        self._inbox.put(_Cancel(utterance_id))

    def shutdown(self) -> None:
        """End every utterance as cancelled and stop the thread; returns when it has stopped."""
        self._inbox.put(_Shutdown())
        if self._thread.is_alive():
            self._thread.join()

    def describe(self) -> dict[str, object]:
        """What is loaded, what it can do and how busy it is.

        Raises EngineFailed when nothing would be served.
        """
        if self._failure is not None:
            raise EngineFailed(f"the engine is not running: {self._failure}")
        model, config = self._checkpoint.model, self._config
        kind = f"qwen3-tts-12hz-{model.size}-{model.type}"
        return {
            "model": f"untrained demo ({kind})" if model.untrained_demo else kind,
            "type": model.type,
            "size": model.size,
            "untrained_demo": model.untrained_demo,
            "instance": self.instance,
            "speakers": list(model.speakers),
            "languages": self._preparation.languages,
            "voices": self._voices.ids,
            "default_voice": self._voices.default,
            "sample_rate": SAMPLE_RATE,
            "limits": {
                "max_text_tokens": config.max_text_tokens,
                "max_instruct_tokens": config.max_instruct_tokens,
                "max_frames": config.max_frames,
                "slots": config.slots,
                "max_waiting": config.max_waiting,
            },
            "active": self.statistics.active,
            "waiting": self.statistics.waiting,
            **self._placement,
        }

    # On the engine thread.

    def _main(self) -> None:
        try:
            self._run()
            self._close("shut down", "cancelled")
        except Exception as error:  # the root of the thread: nobody may be left waiting
            log.exception("the engine has failed")
            self._close(f"{type(error).__name__}: {error}", "failed")

    def _run(self) -> None:
        while self._read_inbox():
            for utterance, slot in self._scheduler.admit():
                utterance.admitted = time.monotonic()
                self._runner.prefill(slot, utterance.prompt, utterance.sampling)
            self._publish()
            running = self._scheduler.running
            if running:
                longest = max(utterance.length for utterance in running)
                self._deliver(running, self._runner.frame(len(running), longest))

    def _read_inbox(self) -> bool:
        """Act on all messages, waiting for one when there is nothing else to do; false after a shutdown."""
        idle = not self._scheduler.running and not self._scheduler.waiting
        try:
            while True:
                message = self._inbox.get(block=idle)
                idle = False
                if isinstance(message, _Shutdown):
                    return False
                if isinstance(message, _Cancel):
                    self._cancel(message.utterance_id)
                else:
                    self._scheduler.enqueue(message)
        except queue.Empty:
            return True

    def _cancel(self, utterance_id: int) -> None:
        waiting = self._scheduler.withdraw(utterance_id)
        if waiting is not None:
            self._end(waiting, "cancelled")
            return
        slot = self._scheduler.slot_of(utterance_id)
        if slot is not None:
            self._retire(slot, "cancelled")

    def _deliver(self, running: tuple[Utterance, ...], frame: Frame) -> None:
        """Hand each row's sound to its sink and retire those that ended, the last slot first: moves stay simple."""
        now = time.monotonic()
        for slot in reversed(range(len(running))):
            utterance = running[slot]
            # The position the step has read is used even when the row has ended with it.
            if frame.ended[slot]:
                self._retire(slot, "complete")
                continue
            utterance.frames += 1
            self.statistics.frames += 1
            utterance.first_audio = utterance.first_audio or now
            utterance.sink.audio(frame.pcm[slot], frame.codes[slot])
            if utterance.frames >= utterance.max_frames:
                self._retire(slot, "max_length")

    def _retire(self, slot: int, reason: Reason) -> None:
        utterance = self._scheduler.running[slot]
        move = self._scheduler.retire(slot)
        # Before the copy: should that fail, this utterance stands in no list any more and nobody else would end it.
        self._end(utterance, reason)
        if move is not None:
            self._runner.move(move.source, move.target, self._scheduler.running[move.target].length)

    def _end(self, utterance: Utterance, reason: Reason, error: EngineFailed | None = None) -> None:
        with self._admission:
            self._unfinished -= 1
        self.statistics.utterances += 1
        self.statistics.cancelled += reason == "cancelled"
        self.statistics.failed += reason == "failed"
        self._publish()
        now = time.monotonic()
        since = utterance.submitted
        info = {
            "reason": reason,
            "frames": utterance.frames,
            "samples": utterance.frames * SAMPLES_PER_FRAME,
            **utterance.description,
            "timings": {
                "queue_s": _seconds(since, utterance.admitted),
                "first_audio_s": _seconds(since, utterance.first_audio),
                "total_s": _seconds(since, now),
            },
        }
        utterance.sink.end(Outcome(reason, info, error))

    def _publish(self) -> None:
        self.statistics.active = len(self._scheduler.running)
        self.statistics.waiting = self._scheduler.waiting

    def _close(self, why: str, reason: Reason) -> None:
        """End everybody, those still in the inbox too, and let nobody in any more."""
        with self._admission:
            self._failure = why
        while True:
            try:
                message = self._inbox.get_nowait()
            except queue.Empty:
                break
            if isinstance(message, Utterance):
                self._scheduler.enqueue(message)
        error = EngineFailed(f"the engine has failed: {why}") if reason == "failed" else None
        for utterance in self._scheduler.drain():
            self._end(utterance, reason, error)


def _seconds(since: float, until: float | None) -> float | None:
    return None if until is None else round(until - since, 6)
