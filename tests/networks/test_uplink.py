"""This machine's way to others: its device, and the greatest packet that gets out by it [NET-2]."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pybuild.networks import uplink, wayout
from tests.needs import need

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
BY_NET = "eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
_ZERO = "0" * 32
LOST_6 = f"{_ZERO} 00 {_ZERO} 00 {_ZERO} ffffffff 00000001 00000000 00200200 lo\n"
DEFAULT_6 = f"{_ZERO} 00 {_ZERO} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003 eth2\n"


@pytest.mark.parametrize(
    ("text", "device"),
    [
        (HEAD + BY_NET + DEFAULT, "eth0"),
        (HEAD + BY_NET, ""),
        (HEAD, ""),
        (LOST_6 + DEFAULT_6, "eth2"),
        (LOST_6, ""),
    ],
)
def test_the_device_of_the_default_route(tmp_path: Path, text: str, device: str) -> None:
    (tmp_path / "routes").write_text(text)
    assert wayout.device(str(tmp_path / "routes")) == device


def test_a_machine_without_routes_has_none(tmp_path: Path) -> None:
    assert wayout.device(str(tmp_path / "none")) == ""
    assert wayout.small_mtu("none") == 0
    assert wayout.small_mtu("lo") == 0  # it takes more than is usual


@pytest.mark.root
@pytest.mark.sandbox
def test_small_packets_are_told() -> None:
    need("ip")

    def link(*words: str) -> None:
        subprocess.run(["ip", "link", *words], check=True, timeout=60)

    link("add", "narrow", "mtu", "1400", "type", "bridge")
    try:
        assert wayout.small_mtu("narrow") == 1400
        link("set", "narrow", "mtu", "1500")
        assert wayout.small_mtu("narrow") == 0
    finally:
        link("delete", "narrow")


def test_packet_filters_of_others_are_obstacles() -> None:
    strict = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
    assert "firewalld lets no packets pass" in uplink.obstacle("table inet firewalld {\n}\n")
    assert uplink.obstacle(strict).startswith("the packet filter's chain ip filter FORWARD drops")
    assert uplink.obstacle(strict + "chain DOCKER-USER {\n}\n") == uplink.obstacle("")


def test_who_chooses_a_subnet_is_alone() -> None:
    with uplink.alone():
        pass
    with uplink.alone():
        pass  # the first has let go of it
