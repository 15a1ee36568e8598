"""What the frontend counts and measures, in Prometheus' form, and the port it can be read from.

Doors (`websocket`, `http`) report to it; nothing is labelled by request, voice or client. It decides nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from frontend import errors
from frontend.tracing import UtteranceSpan

DOORS = ("websocket", "http")
DEFECT = "defect"
ERRORS = (
    *(name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.SpeechError)),
    DEFECT,
)

_SECONDS = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_CANCEL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """All metrics of one frontend. May be used by any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        door = ["door"]
        self.ready = Gauge("frontend_ready", "1 while the model answers real requests", registry=self.registry)
        self.connections = self._gauge("connections", "Open WebSockets", door)
        self.utterances = self._counter("utterances", "Utterances ended, by how", [*door, "reason"])
        self.refusals = self._counter("refusals", "Requests refused before they became utterances", [*door, "code"])
        self.errors = self._counter("errors", "Utterances that an error ended, by its kind", [*door, "error"])
        self.audio = self._counter("audio_seconds", "Sound made for clients", door)
        self.underruns = self._counter(
            "underruns", "Portions of sound that came after a listener who plays at once had none left", door
        )
        self.sent_bytes = self._counter("sent_bytes", "Encoded audio handed to the network", door)
        self.blocked = self._counter("send_blocked_seconds", "Time sends waited for the client to read", door)
        self.queued = self._gauge("queued_utterances", "Utterances waiting for their first audio or their turn", door)
        self.active = self._gauge("active_utterances", "Utterances being spoken", door)
        self.first_audio = self._histogram("first_audio_seconds", "From request to first audio", door, _SECONDS)
        self.cancel = self._histogram("cancel_seconds", "From cancel to freed slot", door, _CANCEL_SECONDS)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A rate cannot see the first event of a series that only begins with it."""
        self.connections.labels("websocket")
        for name in DOORS:
            for metric in (self.audio, self.underruns, self.sent_bytes, self.blocked, self.queued, self.active):
                metric.labels(name)
            for histogram in (self.first_audio, self.cancel):
                histogram.labels(name)
            for error in ERRORS:
                self.errors.labels(name, error)

    def utterance(self, door: str) -> "Tally":
        """The book-keeping of an utterance that was just accepted at a door."""
        return Tally(self, door)

    def refused(self, door: str, code: str) -> None:
        """A request got an error instead of becoming an utterance; one code for both spellings of the wire."""
        self.refusals.labels(door, code.lower()).inc()

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Counts a WebSocket as open within the block."""
        with self.connections.labels("websocket").track_inprogress():
            yield

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Answers GET /metrics on a port of its own, on a thread, until the returned function is called.

        Raises OSError when the address is taken.
        """
        server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def _counter(self, name: str, meaning: str, labels: list[str]) -> Counter:
        return Counter(f"frontend_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, labels: list[str]) -> Gauge:
        return Gauge(f"frontend_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"frontend_{name}", meaning, labels, registry=self.registry, buckets=buckets)


class Tally:
    """One utterance from acceptance to end, counted and traced. Of a step reported more than once the first counts."""

    def __init__(self, metrics: Metrics, door: str) -> None:
        self._metrics = metrics
        self._door = door
        self._accepted_at = time.monotonic()
        self._first_audio_s: float | None = None
        self._cancelled_at: float | None = None
        self.reason: str | None = None
        self.sent_bytes = 0
        self.audio_s = 0.0
        self._played_out: float | None = None
        self.span = UtteranceSpan(door)
        metrics.queued.labels(door).inc()

    @property
    def first_audio_s(self) -> float | None:
        """Seconds from acceptance to first audio; None before."""
        return self._first_audio_s

    @property
    def seconds(self) -> float:
        """Time since it was accepted."""
        return time.monotonic() - self._accepted_at

    def heard(self) -> None:
        """Its first audio is there: it is active, and no longer queued."""
        if self._first_audio_s is None and self.reason is None:
            self._first_audio_s = self.seconds
            self._metrics.first_audio.labels(self._door).observe(self._first_audio_s)
            self._metrics.queued.labels(self._door).dec()
            self._metrics.active.labels(self._door).inc()
            self.span.happened("first_audio")

    def made(self, seconds: float, *, in_time: bool = True) -> None:
        """So much sound of it came. in_time: whether it was ours to come in time, as live text's is not."""
        if seconds <= 0:
            return
        now = time.monotonic()
        if in_time and self._played_out is not None and now > self._played_out:
            self._metrics.underruns.labels(self._door).inc()
        self._played_out = max(now, self._played_out or now) + seconds
        self.audio_s += seconds
        self._metrics.audio.labels(self._door).inc(seconds)

    def sent(self, size: int, blocked_s: float = 0.0) -> None:
        """So many bytes of encoded audio went out, and the send took so long. May be reported repeatedly."""
        self.sent_bytes += size
        self._metrics.sent_bytes.labels(self._door).inc(size)
        self._metrics.blocked.labels(self._door).inc(blocked_s)

    def cancelling(self) -> None:
        """Somebody wants it to end early."""
        if self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
            self.span.happened("cancel")

    def failed(self, failure: Exception) -> None:
        """An error ends it; one that is no SpeechError is a defect of ours."""
        error = type(failure).__name__ if isinstance(failure, errors.SpeechError) else DEFECT
        self._metrics.errors.labels(self._door, error).inc()
        self.span.failed(error)

    def ended(self, reason: str) -> None:
        """Its slot is free; reason as in audio_end."""
        if self.reason is not None:
            return
        self.reason = reason
        self._metrics.utterances.labels(self._door, reason).inc()
        waiting = self._metrics.queued if self._first_audio_s is None else self._metrics.active
        waiting.labels(self._door).dec()
        if self._cancelled_at is not None:
            self._metrics.cancel.labels(self._door).observe(time.monotonic() - self._cancelled_at)
        self.span.ended(reason, round(self.audio_s, 3), self.sent_bytes)
