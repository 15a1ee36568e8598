"""A checkpoint from the Hugging Face hub into a directory that is whole from the moment it exists.

Puts the parts in order; which checkpoint is wanted, and what to do without the hub, others decide.
"""

from pathlib import Path

from commands.fetch_errors import DiskFull, cannot_be_stored
from commands.fetch_listing import Listing, Source, address, list_files
from commands.fetch_partial import NO_ROOM
from commands.fetch_progress import Progress, readable
from commands.fetch_staging import Staging, held, only_fetcher_of
from commands.fetch_transfer import Patience, transfer

PATIENCE = Patience()


def fetch(source: Source, out: Path, progress: Progress, patience: Patience = PATIENCE) -> Listing:
    """Make `out` hold the source, unless it does already, which is seen without the hub.

    What a former run, ended in whatever way, has brought is kept and gone on with, at the commit it began with.
    Raises FetchFailed.
    """
    out = out.absolute()
    try:
        if (there := held(out, source)) is not None:
            return there
        with only_fetcher_of(out, lambda: progress.say(f"waiting for another command that fetches {out}")):
            return held(out, source) or _download(source, out, progress, patience)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(f"{out}: {error.strerror}") from error
        raise cannot_be_stored(out, error) from error


def _download(source: Source, out: Path, progress: Progress, patience: Patience) -> Listing:
    staging = Staging(out)
    listing = _pinned(source, staging, progress)
    staging.require_room(listing)
    have = staging.arrived(listing)
    going_on = f", {readable(have)} of which have arrived before" if have else ""
    progress.say(f"fetching {listing} to {out}: {readable(listing.size)}{going_on}")
    progress.begin(listing.size, have)
    for file in staging.missing(listing):
        url = address(source, listing.commit, file.path)
        transfer(url, file, staging.folder / file.path, patience, progress)
    progress.end()
    staging.publish()
    return listing


def _pinned(source: Source, staging: Staging, progress: Progress) -> Listing:
    """The commit a former run has begun, else the one the hub names now."""
    begun = staging.listing()
    if begun is not None and begun.answers(source):
        return begun
    listing = list_files(source)
    if begun is not None:
        progress.say(f"throwing away the unfinished {begun}")
    staging.begin(listing)
    return listing
