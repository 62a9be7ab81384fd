"""resolv.conf and hosts as steps see them [SBX-9, SBX-10]."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pybuild.executor.network import PUBLIC_SERVERS, hosts, is_stub, resolv_conf

PUBLIC = "".join(f"nameserver {server}\n" for server in PUBLIC_SERVERS)


@dataclass(frozen=True)
class Dns:
    nameservers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    search_domains: tuple[str, ...] = ()


def test_hosts() -> None:
    assert hosts("box", [("db", "10.0.0.5"), ("v6", "fd00::1")]) == (
        "127.0.0.1\tlocalhost box\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "10.0.0.5\tdb\n"
        "fd00::1\tv6\n"
    )


@pytest.mark.parametrize(
    ("text", "host_network", "expected"),
    [
        ("nameserver 10.0.0.1\n", False, "nameserver 10.0.0.1\n"),
        ("nameserver 127.0.0.1\nnameserver ::1\n", False, PUBLIC),
        ("nameserver 127.0.0.1\n", True, "nameserver 127.0.0.1\n"),
        ("", False, PUBLIC),
        ("", True, PUBLIC),
        (
            "# c\n; c\nsearch a\nsearch b c\noptions ndots:1\noptions edns0\nnameserver fe80::1%eth0\n",
            False,
            "nameserver fe80::1%eth0\nsearch b c\noptions ndots:1 edns0\n",
        ),
        ("nameserver 1.1.1.1\nsearch .\nsortlist 1.2.3.4\n", False,
         "nameserver 1.1.1.1\nsortlist 1.2.3.4\n"),
        ("nameserver\nnameserver not-an-address\n", False, "nameserver not-an-address\n"),
    ],
)  # fmt: skip
def test_resolv_conf(text: str, host_network: bool, expected: str) -> None:
    assert resolv_conf(text, host_network=host_network) == expected


def test_configuration_wins_over_the_host() -> None:
    dns = Dns(("192.0.2.1",), ("rotate",), ("example.com",))
    text = "nameserver 10.0.0.1\nsearch a\noptions b\n"
    assert resolv_conf(text, host_network=False, dns=dns) == (
        "nameserver 192.0.2.1\nsearch example.com\noptions rotate\n"
    )
    assert resolv_conf(text, host_network=False, dns=Dns()) == (
        "nameserver 10.0.0.1\nsearch a\noptions b\n"
    )


def test_stub_of_systemd_resolved_is_known() -> None:
    assert is_stub("nameserver 127.0.0.53\noptions edns0\n")
    assert not is_stub("nameserver 127.0.0.53\nnameserver 10.0.0.1\n")
