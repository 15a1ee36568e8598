"""Ports are asked for before anything is started."""

import contextlib
import socket
from pathlib import Path

import pytest

from commands import CommandFailed
from commands.ports import Wanted, free_ports, require_free

HOST = "127.0.0.1"


def test_free_ports_are_different_and_can_be_had() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    require_free([Wanted(HOST, port, f"--{port}") for port in ports])


def test_the_kernel_gives_nobody_else_a_free_port_meanwhile() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if first <= 10_000 and last == 65_535:
        pytest.skip("the kernel gives every port away")
    chosen = free_ports(50)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(50)]
        clients = [stack.enter_context(socket.create_connection(server.getsockname())) for server in servers]
        given = {each.getsockname()[1] for each in servers + clients}
    assert all(first <= port <= last for port in given)
    assert not any(first <= port <= last for port in chosen)


def test_a_taken_port_is_named_with_its_option() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandFailed, match=rf"{port}.*--port"):
            require_free([Wanted(HOST, port, "--port")])


def test_all_taken_ports_are_named_at_once() -> None:
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as other:
        ports = [server.getsockname()[1] for server in (one, other)]
        with pytest.raises(CommandFailed, match=rf"{ports[0]} .*--port; .*{ports[1]} .*--other$"):
            require_free([Wanted(HOST, ports[0], "--port"), Wanted(HOST, ports[1], "--other")])


def test_one_port_for_two_purposes_is_refused() -> None:
    [port] = free_ports(1)
    with pytest.raises(CommandFailed, match=rf"{port} .*--port and --triton-grpc-port"):
        require_free([Wanted(HOST, port, "--port"), Wanted(HOST, port, "--triton-grpc-port")])


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(CommandFailed, match=r"1 to 65535"):
        require_free([Wanted(HOST, port, "--port")])


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"203\.0\.113\.1"):
        require_free([Wanted("203.0.113.1", 8080, "--port")])
