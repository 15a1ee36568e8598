"""Every error the engine raises on purpose.

    TtsError
    ├── InvalidRequest      the caller's input is wrong; the message names the value and the limit
    ├── Unsupported         a valid input that this checkpoint or this version cannot serve
    ├── UnknownVoice        no voice folder and no speaker of that name
    ├── Overloaded          too many are running or waiting; try again later
    ├── EngineFailed        the engine stopped; nothing more will be served until a reload
    └── LoadError           the engine could not start
        ├── CheckpointError the checkpoint directory is incomplete, inconsistent or of an unknown kind
        ├── SettingsError   an engine size is wrong
        └── VoiceError      a voice folder cannot be used

The mapping to gRPC status codes stands in model.py, and only there.
"""


class TtsError(Exception):
    """Root of the tree; never raised itself."""


class InvalidRequest(TtsError):
    """The caller's input is wrong."""


class Unsupported(TtsError):
    """The input is well formed, but this checkpoint or version cannot serve it."""


class UnknownVoice(TtsError):
    """No voice folder and no speaker of the checkpoint has this name."""


class Overloaded(TtsError):
    """Too many utterances are running or waiting; `retry_after_s` where it can be told when fewer will be."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineFailed(TtsError):
    """The engine thread has ended; the model must be loaded again."""


class LoadError(TtsError):
    """The engine could not start."""


class CheckpointError(LoadError):
    """A checkpoint directory is incomplete, inconsistent or of an unknown kind."""


class SettingsError(LoadError):
    """An engine size is wrong."""


class VoiceError(LoadError):
    """A voice folder is missing, malformed, or holds a recording that cannot be cloned."""
