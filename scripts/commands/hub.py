"""Checkpoints from the Hugging Face hub, downloaded once into a directory with the hub's progress bar.

Does not know which checkpoint is wanted or what to do when the hub is away.
"""

import re
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from commands import CommandFailed

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FIRST_ANSWER_TIMEOUT = 10.0
# HTTPError is that of the hub's own HTTP library, whichever it is; its subclass HfHubHTTPError is an answer.
AWAY = (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError)


class HubUnreachable(Exception):
    """No connection to the hub; the message says why."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the form owner/name of the hub."""
    return HUB_ID.fullmatch(name) is not None


def download(hub_id: str, models: Path) -> Path:
    """The directory under `models` that holds the checkpoint; an interrupted download is taken up again.

    Raises HubUnreachable without a connection, CommandFailed when the hub refuses or the disk does.
    """
    name = hub_id.partition("/")[2]
    finished = models / name
    if finished.is_dir():
        return finished
    # Only a whole checkpoint gets its name, so a directory in `models` is never half of one.
    unfinished = models / f".unfinished-{name}"
    try:
        HfApi().model_info(hub_id, timeout=FIRST_ANSWER_TIMEOUT)
        print(f"downloading {hub_id} to {finished}", flush=True)
        snapshot_download(hub_id, local_dir=unfinished)
    except HfHubHTTPError as error:
        raise CommandFailed(f"the hub does not give {hub_id}: {_first_line(error)}") from error
    except AWAY as error:
        raise HubUnreachable(f"the Hugging Face hub cannot be reached ({_first_line(error)})") from error
    except OSError as error:
        raise CommandFailed(f"{hub_id} cannot be stored in {models}: {error.strerror or error}") from error
    return unfinished.rename(finished)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
