"""One user of a registry takes all that there is of something; another one pushes all the same."""

from __future__ import annotations

import select
import socket
from collections.abc import Generator
from contextlib import ExitStack, suppress

import pytest

pytest.importorskip("bcrypt")

from pybuild.model.digest import Digest
from tests.security.registrysite import Registry, login, registry

pytestmark = pytest.mark.slow
DATA = b"what ann pushes meanwhile"


@pytest.fixture(params=[(), ("--tokens",)], ids=["passwords", "tokens"])
def one(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Registry]:
    with registry(tmp_path_factory.mktemp("registry"), *request.param) as found:
        yield found


def pushes(one: Registry) -> None:
    path = f"/v2/home/ann/app/blobs/uploads/?digest={Digest.of(DATA)}"
    reply = one.ask("POST", path, DATA, user="ann")
    assert reply.status == 201, reply


def test_uploads_that_are_never_ended(one: Registry) -> None:
    statuses = [
        one.ask("POST", f"/v2/home/bob/{number % 7}/blobs/uploads/").status for number in range(600)
    ]
    assert set(statuses) == {202, 429} and statuses[0] == 202
    pushes(one)


def test_bodies_that_never_end(one: Registry) -> None:
    address, _, port = one.host.partition(":")
    with ExitStack() as stack:
        for number in range(80):
            begun = one.ask("POST", f"/v2/home/bob/{number % 7}/blobs/uploads/")
            assert begun.status == 202
            words = "".join(f"{name}: {text}\r\n" for name, text in login("bob").items())
            head = f"PATCH {begun.headers['location']} HTTP/1.1\r\nHost: {one.host}\r\n{words}"
            bob = stack.enter_context(socket.create_connection((address, int(port)), 10))
            bob.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\nx")
        pushes(one)


def test_a_flood_of_wrong_passwords(one: Registry) -> None:
    """Counted, not timed: so many guesses are checked before somebody else's first login."""
    address, _, port = one.host.partition(":")

    def begun(stack: ExitStack, user: str, password: str, source: str) -> socket.socket:
        """Return a connection whose request lacks its last byte."""
        made = socket.create_connection((address, int(port)), 60, (source, 0))
        stack.enter_context(made)
        words = "".join(f"{name}: {text}\r\n" for name, text in login(user, password).items())
        made.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {one.host}\r\n{words}\r".encode())
        return made

    with ExitStack() as stack:
        guesses = [begun(stack, "bob", f"guess{number}", "127.0.0.1") for number in range(200)]
        other = begun(stack, "ann/app", "", "127.0.0.2")
        for made in (*guesses, other):
            with suppress(OSError):  # a machine that has few descriptors lets fewer wait
                made.sendall(b"\n")
        assert other.recv(12) == b"HTTP/1.1 200"
        answers: list[bytes] = []
        for made in select.select(guesses, [], [], 0)[0]:
            with suppress(ConnectionResetError):
                answers.append(made.recv(12))
        assert answers.count(b"HTTP/1.1 401") < 100
        assert set(answers) <= {b"HTTP/1.1 401", b"HTTP/1.1 429", b""}
