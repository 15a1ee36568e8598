"""Whose connection it is, as an address that limits can be counted by. Pure; it knows no framework."""

import ipaddress
import re

# Whoever has one IPv6 address has all of its /64.
IPV6_PREFIX = 64
# As some proxies write an address, with the port that is new for every connection.
_WITH_PORT = re.compile(r"\[(.+)\]:\d+|([^:]+):\d+")


def client_address(peer: str, forwarded_for: str | None, proxies: int) -> str:
    """The client's address, seen through that many trusted proxies.

    Each proxy appends the address it sees to `X-Forwarded-For`; what stands further left anybody may have written.
    """
    seen = [part.strip() for part in (forwarded_for or "").split(",") if part.strip()]
    seen.append(peer)
    return _counted_as(seen[max(0, len(seen) - 1 - proxies)])


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _counted_as(address: str) -> str:
    with_port = _WITH_PORT.fullmatch(address)
    try:
        parsed = ipaddress.ip_address(address if with_port is None else with_port[1] or with_port[2])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
        parsed = parsed.ipv4_mapped  # as a listener on IPv6 calls whoever comes over IPv4
    return str(parsed)
