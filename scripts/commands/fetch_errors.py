"""Why a checkpoint could not be fetched. Each kind has an exit status of its own, for the scripts that wait for it."""

from pathlib import Path

from commands import CommandFailed


class FetchFailed(CommandFailed):
    """A checkpoint is not there. What has arrived is kept, and the next run goes on from it."""

    exit_status = 1


class HubUnreachable(FetchFailed):
    """No connection to the hub, or no answer to the question what there is; nothing has been downloaded."""

    exit_status = 3


class ConnectionLost(FetchFailed):
    """The hub was there and is gone, more often in a row than is worth trying."""

    exit_status = 3


class Refused(FetchFailed):
    """The hub does not give this: no such repository or revision, or no right to it."""

    exit_status = 4


class ChecksumMismatch(FetchFailed):
    """A file is not what the hub says it is, twice in a row."""

    exit_status = 5


class DiskFull(FetchFailed):
    """No room, found out before or while writing."""

    exit_status = 6


class Occupied(FetchFailed):
    """The directory holds something else than what is asked for, or cannot be put in place at once."""

    exit_status = 7


def cannot_be_stored(folder: Path, error: OSError) -> FetchFailed:
    """What to tell of a failed write."""
    return FetchFailed(f"{error.filename or folder}: {error.strerror or error}")
