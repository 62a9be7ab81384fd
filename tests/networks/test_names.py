"""Names of containers: messages of DNS, what a container sees, and the files that say whom to ask [NET-10, NET-11]."""

from __future__ import annotations

import os
import select
import socket
import struct
from pathlib import Path

import pytest

from pybuild.networks import dnsmessages as dns
from pybuild.networks.directory import Directory
from pybuild.networks.events import Events
from pybuild.networks.hostfiles import hosts, resolv_conf
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.order import EndpointOrder, NetworkOrder
from pybuild.networks.records import NetworkEndpoint, NetworkFiles
from pybuild.networks.resolver import Resolver
from tests.networks.test_carrying import in_a_child


def query(name: str, type: int = dns.A, size: int = 0) -> bytes:
    edns = struct.pack("!BHHIH", 0, dns.OPT, size, 0, 0) if size else b""
    head = struct.pack("!6H", 7, 0x100, 1, 0, 0, 1 if size else 0)
    return head + dns.packed_name(name) + struct.pack("!2H", type, 1) + edns


def test_a_question_is_read() -> None:
    question = dns.read_question(query("Web.Front", dns.AAAA, 1232))
    assert question is not None
    assert (question.name, question.type, question.most_bytes) == ("web.front", dns.AAAA, 1232)
    assert question.is_query


def test_what_is_no_question_is_none_and_nothing_breaks() -> None:
    whole = query("web", size=4096)
    for size in range(len(query("web"))):
        assert dns.read_question(whole[:size]) is None
    pointing = whole[:12] + b"\xc0\x0c" + whole[14:]
    assert dns.read_question(pointing) is None
    assert dns.read_question(whole[:2] + b"\x81\x80" + whole[4:]) is None
    assert dns.read_question(b"\xff" * 600) is None
    assert dns.refusal(b"ab", dns.FORMERR) == b""
    assert dns.code_of(dns.refusal(whole, dns.FORMERR)) == dns.FORMERR


def test_an_answer_has_the_question_and_all_addresses() -> None:
    message = query("web")
    question = dns.read_question(message)
    assert question is not None
    made = dns.answer(message, question, [b"\n\0\0\2", b"\n\0\0\3"])
    id, flags, questions, answers, _, _ = struct.unpack_from("!6H", made)
    assert (id, flags, questions, answers) == (7, 0x8180, 1, 2)
    assert made.endswith(struct.pack("!3HIH", 0xC00C, 1, 1, 600, 4) + b"\n\0\0\3")
    assert dns.fitted(made, 512) == made
    short = dns.fitted(made, 20)
    assert [message[2] & 2 for message in (short, made)] == [
        2,
        0,
    ]  # the bit that says that it was cut
    assert short[12:] == message[12:]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.77.10.in-addr.arpa", "10.77.0.2"),
        ("2.0.77.in-addr.arpa", ""),
        ("256.0.77.10.in-addr.arpa", ""),
        ("2." + "0." * 27 + "7.7.d.f.ip6.arpa", "fd77::2"),
        ("g." + "0." * 27 + "7.7.d.f.ip6.arpa", ""),
        ("web", ""),
    ],
)
def test_addresses_are_looked_up_backwards(name: str, address: str) -> None:
    assert dns.reversed_address(name) == address


def ask(directory: Directory, name: str, type: int = dns.A) -> list[bytes] | None:
    question = dns.read_question(query(name, type))
    assert question is not None
    values = directory.answer(question)
    return None if values is None else sorted(values)


def test_a_link_is_a_name_for_one_container_that_wins_over_others(tmp_path: Path) -> None:
    """[NET-15]"""
    networks = Networks(str(tmp_path))
    front = networks.create(NewNetwork(name="front"))
    links = (("one", "db"), ("nobody", "two"), ("f" * 64, "far"))
    for number, name in enumerate(("me", "one", "db", "two", "f" * 12)):
        address, own = (f"10.0.0.{number}/24",), links if name == "me" else ()
        endpoint = NetworkEndpoint(
            name, name, os.getpid(), addresses=address, names=(name,), links=own
        )
        networks.records.keep(front, endpoint)
    directory = Directory(networks.records, "me")
    assert ask(directory, "db") == ask(directory, "DB.front") == [b"\n\0\0\1"]
    assert ask(directory, "two") == [b"\n\0\0\3"]  # nobody has that link's other end
    assert ask(directory, "far") == [b"\n\0\0\4"]
    assert ask(Directory(networks.records, "one"), "db") == [b"\n\0\0\2"]


def test_a_container_sees_the_names_of_its_networks_alone(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    front, back = (networks.create(NewNetwork(name=name)) for name in ("front", "back"))

    def put(network: object, name: str, address: str, *aliases: str) -> None:
        assert network in (front, back)
        endpoint = NetworkEndpoint(
            name * 8, name, os.getpid(), addresses=(address,), names=(name, *aliases)
        )
        networks.records.keep(front if network == front else back, endpoint)

    put(front, "me", "10.0.0.2/24")
    put(front, "one", "10.0.0.3/24", "db")
    put(back, "far", "10.1.0.2/24", "db")
    directory = Directory(networks.records, "me" * 8)
    assert ask(directory, "ONE") == ask(directory, "one.front") == [b"\n\0\0\3"]
    assert ask(directory, "db") == [b"\n\0\0\3"]
    assert ask(directory, "far") is None
    assert ask(directory, "one.back") is None
    assert ask(directory, "one", dns.AAAA) == []  # it is there, without such an address
    assert ask(directory, "3.0.0.10.in-addr.arpa", dns.PTR) == [dns.packed_name("one.front")]
    put(front, "two", "10.0.0.4/24", "db")
    assert ask(directory, "db") == [b"\n\0\0\3", b"\n\0\0\4"]
    networks.records.drop(front, NetworkEndpoint("one" * 8, "one", addresses=("10.0.0.3/24",)))
    assert ask(directory, "one") is None


def test_the_files_say_whom_to_ask() -> None:
    order = NetworkOrder(
        folder="",
        container="c",
        name="web",
        hostname="web.example",
        endpoints=(EndpointOrder("front"),),
        search=("example",),
        options=("timeout:1",),
        hosts=(("other", "10.0.0.9"), ("host", "host-gateway")),
    )
    assert resolv_conf(order) == (
        "nameserver 127.0.0.11\nsearch example\noptions timeout:1 ndots:0\n"
    )
    lines = hosts(order, []).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-1] == "10.0.0.9\tother"  # a host without a gateway has no address to name


def test_a_connection_that_stays_open_holds_nothing_of_its_container(tmp_path: Path) -> None:
    """Its process could else keep a published port for as long as somebody likes."""

    def work() -> None:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        events = Events()
        Resolver(events, Directory(NetworkFiles(str(tmp_path)), "c"), (), udp, tcp)
        reader, held = os.pipe()
        client = socket.create_connection(tcp.getsockname(), 60)
        events.turn()
        os.close(held)
        assert select.select([reader], [], [], 60)[0], "somebody else has the other end"
        client.close()

    assert in_a_child(work)


def test_a_label_has_63_bytes_at_most() -> None:
    assert dns.packed_name("a" * 63 + ".b") == b"\x3f" + b"a" * 63 + b"\1b\0"
    assert dns.packed_name("a" * 64) == b"\x3f" + b"a" * 63 + b"\0"
