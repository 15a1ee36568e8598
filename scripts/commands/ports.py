"""Whether the ports a command wants can be had, asked of the kernel before anything is started.

Knows nothing of who will listen there.
"""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from commands import CommandFailed


@dataclass(frozen=True)
class Wanted:
    """A port that something is to listen on, and the option with which the user can choose another."""

    host: str
    port: int
    option: str


def require_free(wanted: Sequence[Wanted]) -> None:
    """Nothing, when each port can be bound now.

    Raises CommandFailed naming the port and its option when it is taken, wanted twice, or out of range.
    """
    options: dict[int, str] = {}
    for want in wanted:
        if not 1 <= want.port <= 65535:
            raise CommandFailed(f"{want.option} {want.port} is not a port: 1 to 65535 are")
        if want.port in options:
            raise CommandFailed(f"port {want.port} is wanted by both {options[want.port]} and {want.option}")
        options[want.port] = want.option
        try:
            _bind(want.host, want.port).close()
        except OSError as error:
            reason = error.strerror or error
            raise CommandFailed(
                f"port {want.port} of {want.host}: {reason}; choose another with {want.option}"
            ) from error


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on at this moment, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bind(host, 0)) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]


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
