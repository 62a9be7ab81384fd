"""The packet filter's table as text [NET-21, NET-23]."""

from __future__ import annotations

from pybuild.networks.rules import (
    BridgeRules,
    Published,
    add_ports,
    remove_ports,
    strict_chains,
    whole,
)

WEB = [
    Published("tcp", "0.0.0.0", 8080, "172.17.0.2", 80),
    Published("tcp", "127.0.0.1", 8081, "172.17.0.2", 80),
    Published("tcp", "::", 8080, "fd00::2", 80),
]


def test_ports_are_elements_of_maps_by_where_they_are_published() -> None:
    assert add_ports("t", WEB).splitlines() == [
        "add element inet t self4 { 172.17.0.2 . 172.17.0.2 }",
        "add element inet t self6 { fd00::2 . fd00::2 }",
        "create element inet t any4 { tcp . 8080 : 172.17.0.2 . 80 }",
        "add element inet t open4 { 172.17.0.2 . tcp . 80 }",
        "create element inet t one4 { 127.0.0.1 . tcp . 8081 : 172.17.0.2 . 80 }",
        "create element inet t any6 { tcp . 8080 : fd00::2 . 80 }",
        "add element inet t open6 { fd00::2 . tcp . 80 }",
    ]
    assert remove_ports("t", WEB[:1]).splitlines() == [
        "delete element inet t self4 { 172.17.0.2 . 172.17.0.2 }",
        "delete element inet t any4 { tcp . 8080 }",
        "delete element inet t open4 { 172.17.0.2 . tcp . 80 }",
    ]


def test_an_internal_network_is_hidden_from_nobody_and_reached_by_nobody() -> None:
    text = whole("t", [BridgeRules("br-a", ("10.0.0.0/8",), internal=True)], [])
    assert 'add element inet t internal { "br-a" }' in text
    assert "hidden4 { 10" not in text


def test_containers_that_may_not_talk_are_not_the_same_networks() -> None:
    text = whole("t", [BridgeRules("br-a", ("10.0.0.0/8",), talks=False)], [])
    assert "add element inet t same" not in text


def test_strict_chains_of_others_are_known() -> None:
    listing = """table ip filter {
\tchain INPUT {
\t\ttype filter hook input priority filter; policy drop;
\t}
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
table inet ours {
\tchain passing {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
"""
    assert strict_chains(listing, "ours") == ["ip filter FORWARD"]
