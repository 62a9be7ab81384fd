"""Each flag of run about networks: in the container, in what inspect says, after a restart; as root and as a plain user [NET]."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from typing import Any

import pytest

from tests.e2e.networked import SERVE, NetworkedPybuild, asked, get, named, run, up
from tests.e2e.rootlessnetworks import rootless_machine

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]
_DNS = (
    *("--dns", "192.0.2.53", "--dns", "192.0.2.54", "--dns-search", "a.test"),
    *("--dns-search", "b.test", "--dns-option", "ndots:3", "--dns-opt", "use-vc"),
)


@pytest.fixture(params=["root", "plain user"])
def machine(request: pytest.FixtureRequest) -> Generator[NetworkedPybuild]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to have a network, or to become somebody else")
    if request.param == "root":
        yield request.getfixturevalue("networked")
        return
    with rootless_machine() as made:
        yield made


def shown(machine: NetworkedPybuild, name: str) -> dict[str, Any]:
    (document,) = json.loads(machine("inspect", name).out)
    return dict(document)


def test_name_servers_that_are_given_are_asked(machine: NetworkedPybuild) -> None:
    machine("network", "create", "front")
    tail = ["search a.test b.test", "options ndots:3 use-vc"]
    script = "cat /etc/resolv.conf"
    lines = asked(machine, script, *_DNS)
    assert lines == ["nameserver 192.0.2.53", "nameserver 192.0.2.54", *tail]
    run(machine, "one", script, "--net", "front", *_DNS)
    machine("wait", "one")
    machine("start", "-a", "one")
    assert machine("logs", "one").out.splitlines() == ["nameserver 127.0.0.11", *tail] * 2
    host = shown(machine, "one")["HostConfig"]
    assert (host["Dns"], host["DnsSearch"]) == (["192.0.2.53", "192.0.2.54"], ["a.test", "b.test"])
    assert (host["DnsOptions"], host["NetworkMode"]) == (["ndots:3", "use-vc"], "front")
    # A server of the container's own, which runs a resolver; this machine's is not meant.
    assert asked(machine, script, "--dns", "127.0.0.1") == ["nameserver 127.0.0.1"]
    # A dot takes the machine's domains away.
    alone = asked(machine, script, "--dns", "192.0.2.53", "--dns-search", ".")
    assert alone == ["nameserver 192.0.2.53"]
    error = machine("create", "--dns", "here", "base", "true", code=None).err
    assert 'invalid dns "here": expected an IP address' in error


def test_ports_are_exposed_and_published(machine: NetworkedPybuild) -> None:
    """CTR-1, CTR-95: what is published is exposed, too; -P publishes what was exposed by hand."""
    options = ("--expose", "80", "--expose", "90-91/udp", "-p", "127.0.0.1:8080:81", "-P")
    run(machine, "web", SERVE, *options)

    def public() -> int:
        (first, *_) = machine("port", "web", "80").out.splitlines()
        return int(first.rpartition(":")[2])

    known = shown(machine, "web")
    assert sorted(known["Config"]["ExposedPorts"]) == ["80/tcp", "81/tcp", "90/udp", "91/udp"]
    assert known["HostConfig"]["PublishAllPorts"] is True
    bound = known["HostConfig"]["PortBindings"]
    assert bound == {"81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    ports = known["NetworkSettings"]["Ports"]
    assert sorted(ports) == ["80/tcp", "81/tcp", "90/udp", "91/udp"]
    assert ports["81/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
    assert {place["HostIp"] for place in ports["91/udp"]} == {"0.0.0.0", "::"}
    up(machine, "127.0.0.1", public())
    answer = get(machine, "127.0.0.1", public())
    assert answer == known["Config"]["Hostname"]
    machine("restart", "-t", "0", "web")
    up(machine, "127.0.0.1", public())
    run(machine, "quiet", "exec sleep 600", "--expose", "80")
    assert shown(machine, "quiet")["NetworkSettings"]["Ports"] == {"80/tcp": None}
    assert machine("ps", "--filter", "name=quiet", "--format", "{{.Ports}}").out == "80/tcp\n"
    for option, words in (
        (("--expose", "0"), "invalid range format for --expose: 0"),
        (("--expose", "9-8"), "invalid range format for --expose: 9-8"),
        (("-p", "7000-7001:80-82"), "invalid ranges specified for container and host Ports"),
        (("-p", "x:80"), "invalid hostPort: x"),
    ):
        assert words in machine("create", *option, "base", "true", code=None).err


def test_the_default_bridge_is_shown_where_scripts_look(machine: NetworkedPybuild) -> None:
    machine("network", "create", "front")
    run(machine, "one", "exec sleep 600")
    run(machine, "two", "exec sleep 600", "--network", "front")
    settings = shown(machine, "one")["NetworkSettings"]
    bridge = settings["Networks"]["bridge"]
    for name in ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "EndpointID"):
        assert settings[name] == bridge[name] != ""
    form = "{{.NetworkSettings.IPAddress}}|{{.NetworkSettings.Gateway}}|"
    assert machine("inspect", "-f", form, "two").out == "||\n"
    machine("stop", "-t", "0", "one")
    assert machine("inspect", "-f", form, "one").out == "||\n"


def test_addresses_and_names_that_are_given(machine: NetworkedPybuild) -> None:
    """NET-3, NET-12: an address of IP version 6, one of the device, and names that others find it by."""
    subnets = ("--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64")
    machine("network", "create", "--ipv6", *subnets, "front")
    mac = "02:42:0a:4d:00:63"
    own = ("--network", "front", "--ip6", "fd00:77::99", "--mac-address", mac.upper())
    names = ("--network-alias", "first", "--net-alias", "second")
    run(machine, "one", SERVE, *own, *names)
    for _ in range(2):
        lines = machine("exec", "one", "busybox", "ip", "addr", "show", "dev", "eth0").out
        assert f"link/ether {mac} " in lines
        assert "inet6 fd00:77::99/64 " in lines
        place = shown(machine, "one")["NetworkSettings"]["Networks"]["front"]
        assert (place["GlobalIPv6Address"], place["MacAddress"]) == ("fd00:77::99", mac)
        assert place["IPAMConfig"] == {"IPv6Address": "fd00:77::99"}
        assert place["Aliases"] == ["first", "second"]
        for name in ("first", "second", "one"):
            assert named(machine, name, "--network", "front")[-1] == "fd00:77::99"
        machine("restart", "-t", "0", "one")
    for options, words in (
        (("--network-alias", "a"), "network-scoped aliases are only supported for user-defined"),
        (("--network", "host", "--network-alias", "a"), "--network-alias needs a network"),
        (("--network", "front", "--ip6", "fd00:78::9"), "no configured subnet of network front"),
        (("--network", "front", "--ip6", "10.77.0.9"), "of the other version of IP"),
        (("--network", "front", "--ip6", "fd00:77::99"), "is already in use"),
        (("--network", "front", "--mac-address", "02:42:ac"), "is not a valid mac address"),
    ):
        done = machine("run", "--rm", *options, "base", "true", code=None)
        assert done.code != 0 and words in done.err, options
    machine("network", "disconnect", "front", "one")
    error = machine("network", "connect", "--alias", "a", "bridge", "one", code=None).err
    assert "only supported for user-defined networks" in error
