"""Whether the ports a command wants can be had, asked of the kernel before anything is started.

Knows nothing of who will listen there.
"""

import contextlib
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commands import CommandFailed

_GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Below it stand the ports of services that are known by them, our own among them.
_FIRST_TO_CHOOSE = 10_000


@dataclass(frozen=True)
class Wanted:
    """A port that something is to listen on, and the option with which the user can choose another."""

    host: str
    port: int
    option: str


def require_free(wanted: Sequence[Wanted]) -> None:
    """Nothing, when each port can be bound now.

    Raises CommandFailed naming every port that is taken, or the first wanted twice or out of range, with its option.
    """
    options: dict[int, str] = {}
    taken: list[str] = []
    for want in wanted:
        if not 1 <= want.port <= 65535:
            raise CommandFailed(f"{want.option} {want.port} is not a port: 1 to 65535 are")
        if want.port in options:
            raise CommandFailed(f"port {want.port} is wanted by both {options[want.port]} and {want.option}")
        options[want.port] = want.option
        try:
            _bind(want.host, want.port).close()
        except OSError as error:
            taken.append(
                f"port {want.port} of {want.host}: {error.strerror or error}, choose another with {want.option}"
            )
    if taken:
        raise CommandFailed("; ".join(taken))


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on at this moment, all different.

    None that the kernel gives away, to whoever connects or asks for any port: it could be gone before it is used.
    """
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in _not_given_away():
            if len(found) == count:
                return found
            with contextlib.suppress(OSError):
                stack.enter_context(_bind(host, port))
                found.append(port)
    raise CommandFailed(f"there are no {count} free ports of {host}")


def _not_given_away() -> list[int]:
    """In random order. All there are, where the kernel gives away all."""
    first, last = map(int, _GIVEN_AWAY.read_text(encoding="ascii").split())
    above = range(_FIRST_TO_CHOOSE, 65_536)
    kept = [port for port in above if not first <= port <= last] or list(above)
    random.shuffle(kept)
    return kept


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        # A port in TIME_WAIT is free for a server; one that somebody listens on is still refused.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
