"""One file over HTTP: ranges from where it broke off, patience with a bad line, and its checksum at the end.

The hub's library keeps no partial file between two runs and compares lengths alone, so only its client, its
authorization and its errors are used. Does not know what the file belongs to.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from commands.fetch_errors import ChecksumMismatch, ConnectionLost, Refused
from commands.fetch_listing import BUSY, RemoteFile, first_line
from commands.fetch_partial import PartialFile, partial_file
from commands.fetch_progress import Progress

SILENCE_S = 30.0
"""How long a connection may bring nothing before it counts as broken."""


@dataclass(frozen=True)
class Patience:
    """How often in a row a connection may break and bring nothing, and the growing seconds before the next try."""

    attempts: int = 7
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0

    def wait_s(self, failures: int) -> float:
        return min(self.first_wait_s * 2 ** (failures - 1), self.longest_wait_s)


class _Cut(Exception):
    """The connection ended before the file did."""


def transfer(url: str, file: RemoteFile, target: Path, patience: Patience, progress: Progress) -> None:
    """Make `target` that file, going on from what a former run has left.

    Raises ConnectionLost, Refused, DiskFull, and ChecksumMismatch when a second download is as wrong as the first.
    """
    with partial_file(target, file) as partial:
        for chance in range(2):
            _complete(url, file, partial, patience, progress)
            got = partial.checksum
            if got == file.checksum:
                return partial.finish()
            progress.arrived(-partial.length)
            partial.restart()
            if chance == 1:
                raise ChecksumMismatch(
                    f"{file.path} is not what the hub says it is: its checksum should be {file.checksum} and is {got}"
                )


def _complete(url: str, file: RemoteFile, partial: PartialFile, patience: Patience, progress: Progress) -> None:
    failures = 0
    while partial.length < file.size:
        before = partial.length
        try:
            _receive(url, file, partial, progress)
            continue
        except HfHubHTTPError as error:
            if error.response.status_code not in BUSY:
                raise Refused(f"the hub does not give {file.path}: {first_line(error)}") from error
            reason = first_line(error)
        except (HTTPError, OfflineModeIsEnabled, _Cut) as error:
            reason = first_line(error)
        failures = 1 if partial.length > before else failures + 1
        if failures >= patience.attempts:
            raise ConnectionLost(
                f"{file.path}: the connection broke {failures} times in a row at {partial.length} of {file.size} bytes "
                f"({reason}); what has arrived is kept, run this again to go on"
            )
        wait = patience.wait_s(failures)
        progress.say(f"{file.path}: {reason}; going on in {wait:g} s")
        time.sleep(wait)


def _receive(url: str, file: RemoteFile, partial: PartialFile, progress: Progress) -> None:
    """One request; returns when the file has its length. Raises _Cut, and what the hub's library raises."""
    # The bytes themselves: a range of a compressed answer would be a range of something else.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if partial.length:
        headers["Range"] = f"bytes={partial.length}-"
    with get_session().stream("GET", url, headers=headers, timeout=SILENCE_S) as response:
        hf_raise_for_status(response)
        if response.status_code != 206 and partial.length:  # all of the file instead of its rest
            progress.arrived(-partial.length)
            partial.restart()
        elif partial.length and not response.headers.get("Content-Range", "").startswith(f"bytes {partial.length}-"):
            raise _Cut("the answer is another part of the file")
        for piece in response.iter_bytes():
            # Not a byte more than the file has.
            piece = piece[: file.size - partial.length]
            partial.append(piece)
            progress.arrived(len(piece))
            if partial.length == file.size:
                return
    if partial.length < file.size:
        raise _Cut("the answer ended too early")
