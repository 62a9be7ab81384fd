"""Peers of connections, counted by machine, user or subscriber, and the sockets that are listened at."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, cast

import pytest

from pybuild.net.doorway import listen_tcp, machine_of, uid_of


class Peer:
    """An accepted socket of *family* whose peer is at *host*; None: it has gone."""

    def __init__(self, family: int, host: str | None) -> None:
        self.family = family
        self._host = host

    def getpeername(self) -> tuple[str, int]:
        if self._host is None:
            raise OSError("gone")
        return self._host, 1


@pytest.mark.parametrize(
    ("family", "host", "machine"),
    [
        (socket.AF_INET, "192.0.2.1", "192.0.2.1"),
        (socket.AF_INET6, "2001:db8:1:2:3:4:5:6", "20010db800010002"),
        (socket.AF_INET6, "2001:db8:1:2::9", "20010db800010002"),
        (socket.AF_INET6, "2001:db8:1:3::9", "20010db800010003"),
        (socket.AF_INET6, "fe80::1%eth0", "fe80000000000000"),
        (socket.AF_INET6, "::ffff:192.0.2.1", "c0000201"),
        (socket.AF_INET6, "::ffff:192.0.2.2", "c0000202"),
        (socket.AF_INET6, "no address", ""),
        (socket.AF_INET, None, ""),
    ],
)
def test_who_is_counted_as_one(family: int, host: str | None, machine: str) -> None:
    assert machine_of(cast(Any, Peer(family, host))) == machine


def test_a_user_is_known_by_the_kernel_s_word() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert uid_of(one) == os.geteuid()
        assert machine_of(one) == f"uid:{os.geteuid()}"


def test_a_port_is_listened_at_once() -> None:
    async def work() -> None:
        [first] = await listen_tcp("127.0.0.1", 0, 1)
        with first:
            port = first.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                await listen_tcp("127.0.0.1", port, 1)
            assert first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            with socket.create_connection(("127.0.0.1", port), timeout=60):
                pass

    asyncio.run(work())


def test_an_address_that_this_machine_has_not_cannot_be_listened_at() -> None:
    with pytest.raises(OSError, match="assign"):
        asyncio.run(listen_tcp("192.0.2.1", 0, 1))
