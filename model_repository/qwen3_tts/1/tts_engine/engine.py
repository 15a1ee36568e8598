"""The engine: one thread that owns the device and turns submitted requests into sound, frame by frame.

Submit, append, cancel and shut down are messages in one inbox, read between frames; what happens in between stands
in generation.py. Knows no Triton: requests come as `Speak`, sound leaves through a `Sink`.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from . import heap
from .acceleration import AUTOMATIC, Acceleration
from .admission import Admission
from .checkpoint import Checkpoint
from .config import SAMPLE_RATE, EngineConfig
from .counts import Statistics
from .devices import Placement
from .errors import EngineFailed, TtsError
from .generation import Generation
from .inbox import Cancel, Failure, Message, Shutdown, VoiceReady
from .live_utterances import Appended, LiveUtterances
from .loading import load_parts
from .pace import Pace
from .preparation import Preparation
from .request import Reason, Sink, Speak, Utterance
from .runner import Runner
from .threads import on_passing_thread
from .voice_encoder import EncodedVoice, VoiceEncoder
from .voices import Voice, VoiceBook

log = logging.getLogger(__name__)

_NOT_STARTED = "not started"
_LATECOMERS_SECONDS = 0.01


class Engine:
    """Speaks many utterances at once on one device. All methods but `start` may be called by any thread."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: EngineConfig,
        voices: VoiceBook,
        runner: Runner,
        encoder: VoiceEncoder | None,
    ) -> None:
        self._checkpoint, self._config, self._voices, self._encoder = checkpoint, config, voices, encoder
        self._preparation = Preparation(checkpoint, config, voices)
        pace = Pace(config.slots)
        self._generation = Generation(config, self._preparation.prompts, runner, pace, self._ended)
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._live = LiveUtterances(self._preparation.live_text, self._inbox.put)
        self.statistics: Statistics = self._generation.statistics
        self._thread = threading.Thread(target=self._main, name="tts-engine", daemon=True)
        self._admission = Admission(config, pace, self.statistics, closed=_NOT_STARTED)
        self._placement: dict[str, object] = {}
        self.instance = secrets.token_hex(8)

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        config: EngineConfig,
        voices: Path | None,
        device: str = "auto",
        dtype: str = "auto",
        threads: str = "auto",
        acceleration: Acceleration = AUTOMATIC,
    ) -> Engine:
        """An engine with its weights on the device, not started.

        device, dtype, threads: see `Placement.named`. Raises LoadError.
        """
        place = Placement.named(device, dtype, threads)
        parts = on_passing_thread(lambda: load_parts(checkpoint, config, voices, place, acceleration))
        book = VoiceBook(parts.files.model, parts.library, config.default_voice)
        engine = cls(parts.files, parts.config, book, parts.runner, parts.encoder)
        engine._preparation.check_voices(parts.library)
        engine._placement = parts.placement
        return engine

    @property
    def slots(self) -> int:
        """How many utterances can be in a slot at once, as asked for or as many as fit."""
        return self._config.slots

    def start(self) -> None:
        """Start the engine thread; once."""
        assert self._admission.closed == _NOT_STARTED, "an engine starts once"
        self._admission.open()
        self._thread.start()

    def submit(self, speak: Speak, sink: Sink) -> int:
        """Queue a request and return its id; its sound and end go to `sink` on the engine thread.

        With text_complete false, `append` takes more text under the name `speak.utterance`. Raises InvalidRequest,
        Unsupported, UnknownVoice, Overloaded or EngineFailed, and then never calls `sink`.
        """
        try:
            return self._submit(speak, sink)
        except TtsError:
            if speak.is_live and speak.utterance is not None:
                self._live.refused(speak.utterance)
            raise

    def is_open(self, name: str) -> bool:
        """Whether a live utterance `name` takes text."""
        return self._live.is_open(name)

    def _submit(self, speak: Speak, sink: Sink) -> int:
        self._admission.check()
        utterance, voice = self._preparation.prepare(speak, sink)
        self._admission.enter(utterance)
        try:
            encoding = self._encoding(utterance, voice)
            if speak.utterance is not None and speak.is_live:
                self._live.open(speak.utterance, utterance.id, speak.text, lambda: self._inbox.put(utterance))
            else:
                self._inbox.put(utterance)
        except BaseException:
            self._admission.leave(utterance, None)
            raise
        if encoding is not None:
            # A future that is kept keeps what it calls: the id alone, or the utterance would stay as long as the voice.
            utterance_id = utterance.id
            encoding.add_done_callback(lambda done: self._inbox.put(VoiceReady(utterance_id, done)))
        return utterance.id

    def append(self, name: str, text: str, *, complete: bool) -> bool:
        """More text for the live utterance `name`; false when there is none, true also when it has just ended or was
        refused: then the text comes too late, and is ignored.

        Raises InvalidRequest when the text is refused; the utterance then goes on without it.
        """
        return self._live.append(name, text, complete=complete)

    def cancel(self, utterance_id: int) -> None:
        """Ask for an utterance to end now; its sink's `end` tells when its slot is free. Unknown ids are ignored."""
        self._inbox.put(Cancel(utterance_id))

    def fail(self, why: str) -> None:
        """Stop serving, since sound can no longer be delivered: every utterance fails, and `describe` raises."""
        self._inbox.put(Failure(why))

    def shutdown(self) -> None:
        """End every utterance as cancelled and stop the threads; returns when they have stopped.

        Never call it from a sink: it would wait for its own thread.
        """
        self._inbox.put(Shutdown())
        if self._thread.is_alive():
            self._thread.join()
        if self._encoder is not None:
            self._encoder.close()

    def describe(self) -> dict[str, object]:
        """What is loaded, what it can do and how busy it is.

        Raises EngineFailed when nothing would be served.
        """
        if self._admission.closed is not None:
            raise EngineFailed(f"the engine is not running: {self._admission.closed}")
        model = self._checkpoint.model
        kind = f"qwen3-tts-12hz-{model.size}-{model.type}"
        return {
            "model": f"untrained demo ({kind})" if model.untrained_demo else kind,
            "type": model.type,
            "size": model.size,
            "untrained_demo": model.untrained_demo,
            "instance": self.instance,
            "speakers": list(model.speakers),
            "languages": self._preparation.prompts.languages,
            "voices": self._voices.ids,
            "default_voice": self._voices.default,
            "sample_rate": SAMPLE_RATE,
            "limits": {name: getattr(self._config, name) for name in _SHOWN_LIMITS},
            "active": self.statistics.active,
            "waiting": self.statistics.waiting,
            **self._placement,
        }

    # On the caller's thread.

    def _encoding(self, utterance: Utterance, voice: Voice) -> Future[EncodedVoice] | None:
        """Start encoding a recording that is to be cloned, unless it is at hand."""
        if voice.reference is None:
            return None
        assert self._encoder is not None, "only Base checkpoints have voices with recordings"
        encoding = self._encoder.encode(voice.reference)
        utterance.awaits_voice = True
        return encoding

    # On the engine thread.

    def _main(self) -> None:
        try:
            while self._read_inbox():
                self._generation.advance()
            self._close("shut down", "cancelled")
        except Exception as error:  # the root of the thread: nobody may be left waiting
            log.exception("the engine has failed")
            self._close(f"{type(error).__name__}: {error}", "failed")

    def _read_inbox(self) -> bool:
        """Act on all messages, waiting for one when there is nothing else to do; false after a shutdown."""
        try:
            if not self._generation.has_work and not self._act(self._next_message()):
                return False
            while self._act(self._inbox.get_nowait()):
                pass
        except queue.Empty:
            return True
        return False

    def _next_message(self) -> Message:
        """Waits for it; memory is given back when it is long in coming. Raises queue.Empty when the wait must end."""
        deadline = self._generation.deadline()
        until = float("inf") if deadline is None else deadline
        if time.monotonic() + heap.IDLE_SECONDS < until:
            try:
                return self._inbox.get(timeout=heap.IDLE_SECONDS)
            except queue.Empty:
                heap.give_back()
        return self._inbox.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _act(self, message: Message) -> bool:
        """Act on a message; false when it is a shutdown."""
        if isinstance(message, Utterance):
            self._generation.enqueue(message)
        elif isinstance(message, Cancel):
            self._generation.end(message.utterance_id, "cancelled")
        elif isinstance(message, Appended):
            self._generation.extend(message.utterance_id, message.ids, complete=message.complete)
        elif isinstance(message, VoiceReady):
            self._take_voice(message)
        elif isinstance(message, Failure):
            raise EngineFailed(message.why)
        else:
            return False
        return True

    def _take_voice(self, message: VoiceReady) -> None:
        utterance = self._generation.find(message.utterance_id)
        if utterance is None:
            return
        error = message.voice.exception()
        if error is None:
            utterance.voice, utterance.awaits_voice = message.voice.result(), False
            utterance.voice.used_by_current_stream()
            utterance.last_text = time.monotonic()
            return
        log.error("encoding a recording has failed", exc_info=error)
        self._generation.end(utterance.id, "failed", EngineFailed(f"encoding the recording has failed: {error}"))

    def _ended(self, utterance: Utterance, reason: Reason) -> None:
        self._admission.leave(utterance, reason)
        self._live.ended(utterance.id)

    def _close(self, why: str, reason: Reason) -> None:
        """End everybody, those still on their way into the inbox too, and let nobody in any more."""
        self._admission.close(why)
        error = EngineFailed(f"the engine has failed: {why}") if reason == "failed" else None
        self._generation.end_all(reason, error)
        while self._admission.unfinished:
            try:
                message = self._inbox.get(timeout=_LATECOMERS_SECONDS)
            except queue.Empty:
                continue  # one that was counted in is still on another thread, or was counted out again
            if isinstance(message, Utterance):
                self._generation.enqueue(message)
                self._generation.end_all(reason, error)


_SHOWN_LIMITS = (
    "max_text_tokens",
    "segment_tokens",
    "max_instruct_tokens",
    "max_reference_text_tokens",
    "max_total_frames",
    "text_idle_seconds",
    "slots",
    "max_waiting",
    "max_wait_seconds",
)
