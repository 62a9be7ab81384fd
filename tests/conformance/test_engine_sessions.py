"""Containers, networks and volumes answer as dockerd does, or otherwise for a reason: ``engine/*.session`` [CTR, NET, VOL]."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.conformance.enginemachine import CLEAN, Machine, make_images, ours
from tests.conformance.session import Session, sessions
from tests.e2e.networked import network_namespace
from tests.harness import Pybuild
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]
SESSIONS = {session.name: session for session in sessions()}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Machine]:
    """A machine with the images, on which ``docker`` is pybuild."""
    where = tmp_path_factory.mktemp("sessions")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("busybox")
    need("nsenter")
    need("nft")
    pybuild = Pybuild(where / "store")
    (where / "here").mkdir()
    make_images(pybuild, where / "images")
    with (
        network_namespace() as pid,
        ours(pybuild, where / "here", ["nsenter", "-t", str(pid), "-n"]) as made,
    ):
        yield made


@pytest.mark.parametrize("name", SESSIONS)
def test_session(machine: Machine, name: str) -> None:
    try:
        for request in SESSIONS[name].requests:
            answer = machine.ask(request.line)
            assert "\n".join(answer.lines()) == "\n".join(request.expected.lines()), request.line
    finally:
        machine.ask(CLEAN)


def test_each_difference_is_one_and_has_a_reason() -> None:
    for session in SESSIONS.values():
        for request in session.requests:
            if request.ours is not None:
                assert request.ours != request.theirs, (session.name, request.line)
                assert len(request.reason) > 10, (session.name, request.line)


def test_there_are_as_many_requests_as_promised() -> None:
    assert sum(len(session.requests) for session in SESSIONS.values()) >= 150


def test_a_session_is_written_as_it_was_read() -> None:
    for session in SESSIONS.values():
        assert Session.parse(session.name, session.text()) == session
