"""What a repository of the Hugging Face hub holds at one commit: paths, sizes and checksums, as its API tells them.

Downloads nothing but that list. A branch is resolved to its commit here, once; what is recorded of it is the caller's.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from commands.fetch_errors import HubUnreachable, Refused

HUB = "https://huggingface.co"
NEWEST = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
FIRST_ANSWER_TIMEOUT_S = 10.0
# Statuses that say nothing about the request: the same one may be answered a moment later.
BUSY = {408, 425, 429, 500, 502, 503, 504}
CONFIG = "config.json"


@dataclass(frozen=True)
class Source:
    """A repository (owner/name), a branch, tag or commit of it, and the hub's address; None is $HF_ENDPOINT or HUB.

    Without a revision any commit will do that is there already, and the newest one when none is.
    """

    repository: str
    revision: str | None = None
    endpoint: str | None = None

    @property
    def hub(self) -> str:
        # The library takes an empty variable, which is what compose makes of one that is not set, for an address.
        return self.endpoint or constants.ENDPOINT or HUB

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit. `sha256` is that of its bytes for a large file; for a small one the hub knows only `blob`,
    Git's own SHA-1 of it, which a large file does not have.
    """

    path: str
    size: int
    sha256: str | None = None
    blob: str | None = None

    @property
    def checksum(self) -> str:
        """The hexadecimal checksum to expect."""
        return self.sha256 or self.blob or ""


@dataclass(frozen=True)
class Listing:
    """A commit's files in the order in which they are fetched."""

    repository: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def answers(self, source: Source) -> bool:
        """Whether this is what is asked for. A branch is what it was when it was first asked for."""
        return self.repository == source.repository and source.revision in (None, self.revision, self.commit)

    def __str__(self) -> str:
        return f"{self.repository} at commit {self.commit}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Listing":
        """Raises KeyError or TypeError for what to_json has not made."""
        return cls(**{**values, "files": tuple(RemoteFile(**file) for file in values["files"])})


def list_files(source: Source) -> Listing:
    """Ask the hub. Raises HubUnreachable, and Refused where it has or gives no such thing."""
    try:
        info = HfApi(endpoint=source.hub).model_info(
            source.repository, revision=source.revision or NEWEST, files_metadata=True, timeout=FIRST_ANSWER_TIMEOUT_S
        )
    except HFValidationError as error:
        raise Refused(f"{source.repository!r} is no name of a repository: {first_line(error)}") from error
    except HfHubHTTPError as error:
        if error.response.status_code in BUSY:
            raise HubUnreachable(f"the Hugging Face hub cannot answer ({first_line(error)})") from error
        raise Refused(f"the hub does not give {source}: {_reason(error)}") from error
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise HubUnreachable(f"the Hugging Face hub cannot be reached ({first_line(error)})") from error
    return _listing(source, info)


def address(source: Source, commit: str, path: str) -> str:
    """The URL of a file."""
    return hf_hub_url(source.repository, path, revision=commit, endpoint=source.hub)


def first_line(error: Exception) -> str:
    """An error of the hub's library, without its paragraphs of advice."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _listing(source: Source, info: ModelInfo) -> Listing:
    commit = info.sha or ""
    if COMMIT.fullmatch(source.revision or NEWEST) and commit != source.revision:
        raise Refused(f"the hub answers with commit {commit or 'none'} where {source} was asked for")
    if not COMMIT.fullmatch(commit):
        raise Refused(f"the hub names no commit for {source}")
    files = [_file(source, sibling) for sibling in info.siblings or []]
    if all(file.path != CONFIG for file in files):
        raise Refused(f"{source} is no checkpoint: it has no {CONFIG}")
    # Without config.json nothing takes a folder for a checkpoint, so it comes when all the others are there.
    files.sort(key=lambda file: (file.path == CONFIG, file.size, file.path))
    return Listing(source.repository, source.revision or NEWEST, commit, tuple(files))


def _file(source: Source, sibling: RepoSibling) -> RemoteFile:
    path = PurePosixPath(sibling.rfilename)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise Refused(f"{source} has a file {sibling.rfilename!r}, which would lie outside the checkpoint")
    sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
    file = RemoteFile(str(path), sibling.size or 0, sha256, None if sha256 else sibling.blob_id)
    if not file.checksum or sibling.size is None:
        raise Refused(f"the hub tells no size and checksum of {path} in {source}")
    return file


def _reason(error: HfHubHTTPError) -> str:
    """The hub answers 401 for what is not there as well as for what is private, so both are said."""
    status = error.response.status_code
    words = {
        401: "no such repository, or HF_TOKEN has no right to it",
        403: "HF_TOKEN has no right to it; a gated repository asks for consent on its page",
        404: "no such repository or revision",
    }
    return f"{words.get(status, first_line(error))} ({status})"
