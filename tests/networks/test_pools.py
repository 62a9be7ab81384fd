"""Subnets of new networks, and addresses of containers [NET-2, NET-3]."""

from __future__ import annotations

import ipaddress

import pytest

from pybuild.networks.pools import (
    Block,
    first_address,
    free_address,
    free_pool,
    unique_local,
)
from pybuild.networks.records import Subnet


def test_the_usual_subnets_are_given_in_order_and_none_that_overlaps() -> None:
    taken: list[Block] = [Block("172.18.4.0/24")]
    given: list[str] = []
    while (pool := free_pool(taken)) is not None:
        given.append(str(pool))
        taken.append(pool)
    assert given[:2] == ["172.17.0.0/16", "172.19.0.0/16"]
    assert given[13:16] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert len(given) == 14 + 16
    assert len({ipaddress.ip_network(one) for one in given}) == len(given)


def test_a_default_route_takes_every_subnet() -> None:
    assert free_pool([Block("0.0.0.0/0")]) is None


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "a/8", "::/129", "10.0.0.0/-1"]
)
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid (CIDR|IP) address"):
        Block(text)


def test_a_subnet_is_shown_by_its_first_address() -> None:
    assert str(Block("10.1.2.3/8")) == "10.0.0.0/8"
    assert str(Block("fd00:0:0::1/64")) == "fd00::/64"
    assert Block("10.0.0.0/8").holds("10.255.255.255")
    assert not Block("10.0.0.0/8").holds("fd00::1")


def test_addresses_come_one_after_the_other_and_one_given_back_not_at_once() -> None:
    subnet = Subnet("10.0.0.0/29", "10.0.0.1", reserved=("10.0.0.4",))
    taken: set[str] = set()
    last, given = "", list[str]()
    while address := free_address(subnet, taken, last):
        given.append(address)
        taken.add(address)
        last = address
    assert given == ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"]
    assert free_address(subnet, {"10.0.0.3", "10.0.0.5", "10.0.0.6"}, "10.0.0.3") == "10.0.0.2"
    assert free_address(subnet, {"10.0.0.2"}, "10.0.0.3") == "10.0.0.5"


def test_addresses_come_of_the_range_where_there_is_one() -> None:
    subnet = Subnet("10.0.0.0/16", "10.0.5.0", range="10.0.5.0/30")
    assert free_address(subnet, (), "") == "10.0.5.1"
    assert free_address(subnet, ("10.0.5.1", "10.0.5.2"), "10.0.5.2") == "10.0.5.3"


def test_version_6_has_addresses_too() -> None:
    block = unique_local("machine", "network")
    assert str(block) == str(unique_local("machine", "network"))
    assert str(block) != str(unique_local("machine", "other"))
    assert ipaddress.ip_network(str(block)).is_private
    subnet = Subnet(str(block), first_address(block))
    first = free_address(subnet, (), "")
    assert ipaddress.ip_address(first) - 1 == ipaddress.ip_address(subnet.gateway)


def test_the_smallest_subnets_have_no_addresses_to_lose() -> None:
    assert free_address(Subnet("10.0.0.0/31", "10.0.0.0"), (), "") == "10.0.0.1"
    assert first_address(Block("10.0.0.4/31")) == "10.0.0.4"
    assert free_address(Subnet("10.0.0.0/32", "10.0.0.0"), (), "") == ""
