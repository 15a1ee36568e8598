"""Everything that can go wrong with an utterance, as one tree.

    SpeechError
    ├── InvalidRequest      the caller's: the model refuses a value of the request
    ├── Unsupported         the caller's: the loaded checkpoint cannot do this
    ├── UnknownVoice        the caller's: no voice of that name
    ├── NotReady            try later: loading, unreachable or draining
    │   ├── Overloaded      it works, and on as much as it takes
    │   ├── Unanswered      whoever was asked hangs: it did not even say that it was asked
    │   └── TooManyRequests  the caller has as much as it may have
    ├── LoadFailed          the checkpoint could not be loaded
    └── InferenceFailed     ours: the model failed while it made the utterance
        ├── Stalled         it lives but made no sound for too long
        └── BackendDied     its process died, or was replaced by another

This module knows neither gRPC statuses (triton.py) nor the JSON codes of the wire (messages.py).
"""


class SpeechError(Exception):
    """Root of the tree; str() is a message for the caller that names value and limit where there are any.

    detail: what only those who run the server may know, as it may name addresses and files; for the log.
    """

    def __init__(self, message: str = "", *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class InvalidRequest(SpeechError):
    """The model refuses a value of the request."""


class Unsupported(SpeechError):
    """The loaded checkpoint cannot do what is asked."""


class UnknownVoice(SpeechError):
    """No voice of the requested name exists."""


class NotReady(SpeechError):
    """Nothing is wrong with the request, but it cannot be served now."""


class Overloaded(NotReady):
    """The model answers, but has no place for one more utterance; `retry_after_ms` where it can be told."""

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Unanswered(NotReady):
    """The server that was asked did not take the request in, nor refuse it; nothing of it was heard or is lost."""


class TooManyRequests(NotReady):
    """This caller has as much as one caller may have; `retry_after_ms` tells when that may change."""

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class LoadFailed(SpeechError):
    """The checkpoint could not be loaded; the detail is the server's reason."""


class InferenceFailed(SpeechError):
    """The model failed while it made the utterance."""


class Stalled(InferenceFailed):
    """The model is alive but sent nothing for longer than it may."""


class BackendDied(InferenceFailed):
    """The process that made the utterance is gone."""
