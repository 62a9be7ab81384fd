"""The chain that docker keeps for others, as text [NET-23]."""

from __future__ import annotations

from pybuild.networks import dockerchain

CHAINS = "table ip filter {\n\tchain DOCKER-USER {\n\t}\n}\n"
LISTED = """table ip filter {
\tchain DOCKER-USER { # handle 4
\t\toifname "br-1" accept # handle 12
\t\tiifname "br-1" accept # handle 11
\t\tiifname "br-10" accept # handle 9
\t\tcounter packets 0 bytes 0 return # handle 5
\t}
}
"""


def test_it_is_used_where_docker_alone_decides() -> None:
    assert dockerchain.decides(CHAINS)
    assert not dockerchain.decides(CHAINS + "chain ufw-before-forward {\n")
    assert not dockerchain.decides("table ip filter {\n}\n")


def test_a_bridge_is_let_pass_once_in_both_directions() -> None:
    commands = dockerchain.let_pass("br-2", LISTED).splitlines()
    assert [line.partition("DOCKER-USER ")[2] for line in commands] == [
        'iifname "br-2" accept',
        'oifname "br-2" accept',
    ]
    assert dockerchain.let_pass("br-1", LISTED) == ""


def test_its_rules_alone_are_taken_back() -> None:
    commands = dockerchain.take_back("br-1", LISTED).splitlines()
    assert [line.rpartition(" ")[2] for line in commands] == ["12", "11"]
    assert dockerchain.take_back("br-2", LISTED) == ""
