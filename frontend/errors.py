"""Everything that can go wrong with an utterance, as one tree.

    SpeechError
    ├── InvalidRequest      the caller's: the model refuses a value of the request
    ├── Unsupported         the caller's: the loaded checkpoint cannot do this
    ├── UnknownVoice        the caller's: no voice of that name
    ├── NotReady            try later: loading, unreachable, full or draining
    ├── LoadFailed          the checkpoint could not be loaded
    └── InferenceFailed     ours: the model failed while it made the utterance
        ├── Stalled         it lives but made no sound for too long
        └── BackendDied     its process died, or was replaced by another

This module knows neither gRPC statuses (triton.py) nor the JSON codes of the wire (messages.py).
"""


class SpeechError(Exception):
    """Root of the tree; str() is a message for the caller that names value and limit where there are any."""


class InvalidRequest(SpeechError):
    """The model refuses a value of the request."""


class Unsupported(SpeechError):
    """The loaded checkpoint cannot do what is asked."""


class UnknownVoice(SpeechError):
    """No voice of the requested name exists."""


class NotReady(SpeechError):
    """Nothing is wrong with the request, but it cannot be served now."""


class LoadFailed(SpeechError):
    """The checkpoint could not be loaded; the message is the server's reason."""


class InferenceFailed(SpeechError):
    """The model failed while it made the utterance."""


class Stalled(InferenceFailed):
    """The model is alive but sent nothing for longer than it may."""


class BackendDied(InferenceFailed):
    """The process that made the utterance is gone."""
