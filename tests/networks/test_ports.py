"""Published ports, taken on this machine before the container runs: which, and what is said of those that are not free [NET-24]."""

from __future__ import annotations

import errno
import socket
from collections.abc import Generator

import pytest

from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.networks.order import PortOrder
from pybuild.networks.ports import HeldPort, hold, hold_again, release


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Generator[tuple[str, int]]:
    """Yield an address and a port of it that somebody has."""
    address = str(request.param)
    try:
        own = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        own.bind((address, 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            pytest.skip("there is no IPv6")
        raise
    with own:
        own.listen()
        yield address, own.getsockname()[1]


def test_a_port_that_somebody_has_is_named(taken: tuple[str, int]) -> None:
    address, number = taken
    with pytest.raises(Fault) as caught:
        hold([PortOrder("tcp", 80, address, number, number)], "")
    shown = f"[{address}]" if ":" in address else address
    assert caught.value.kind == ENVIRONMENT
    assert str(caught.value) == (
        f"cannot publish {shown}:{number} for 80/tcp of the container: port is already allocated"
    )
    assert caught.value.hints == (
        "publish another port, or end what listens there (ss -ltnup shows it)",
    )


def test_the_first_free_one_of_a_range_is_taken(taken: tuple[str, int]) -> None:
    address, number = taken
    if number > 65_000:
        pytest.skip("no room above the port")
    (held,) = hold([PortOrder("tcp", 80, address, number, number + 50)], "")
    assert number < held.port.port <= number + 50
    assert (held.port.protocol, held.port.address, held.port.to_port) == ("tcp", address, 80)
    release([held])
    assert held.socket.fileno() < 0


def test_an_address_that_is_none_of_ours_is_named() -> None:
    with pytest.raises(Fault) as caught:
        hold([PortOrder("udp", 53, "192.0.2.1")], "")
    assert str(caught.value) == (
        "cannot publish 192.0.2.1:* for 53/udp of the container: cannot assign requested address"
    )
    assert caught.value.hints == (
        "publish on an address that this machine has (ip addr shows them)",
    )


def numbers(held: list[HeldPort]) -> set[tuple[str, int]]:
    return {(one.port.address, one.port.port) for one in held}


def test_without_an_address_all_are_taken_or_the_default() -> None:
    held = hold([PortOrder("tcp", 80), PortOrder("udp", 53)], "127.0.0.1")
    try:
        assert {address for address, _ in numbers(held)} == {"127.0.0.1"}
        assert all(number > 0 for _, number in numbers(held))
        assert [one.port.protocol for one in held] == ["tcp", "udp"]
    finally:
        release(held)
    held = hold([PortOrder("tcp", 80)], "")
    try:
        assert ("0.0.0.0", held[0].port.port) in numbers(held)
        assert len({number for _, number in numbers(held)}) == 1
    finally:
        release(held)


def test_nothing_is_kept_of_what_cannot_all_be_had(taken: tuple[str, int]) -> None:
    address, number = taken
    (free,) = hold([PortOrder("tcp", 80, address)], "")
    release([free])
    with pytest.raises(Fault):
        hold(
            [
                PortOrder("tcp", 80, address, free.port.port, free.port.port),
                PortOrder("tcp", 81, address, number, number),
            ],
            "",
        )
    again = hold_again([free.port, free.port._replace(port=number)])
    assert [one.port for one in again] == [free.port]
    release(again)
