"""The answers to raw requests that are recorded of dockerd and of us [ENG-20]."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.rawrequests import REASONS, ask, requests, rows
from tests.daemon.buildsites import daemon
from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.harness import leftovers, make_base
from tests.needs import need, needs
from tests.stress.containers import settled


def test_each_request_has_both_answers() -> None:
    known = rows()
    assert [row.request for row in known] == requests()
    assert len(known) >= 300
    assert all(row.theirs and row.ours for row in known)


def test_we_answer_with_no_fault_of_the_server() -> None:
    """But that nobody here is a manager of swarms, nor makes checkpoints."""
    faults = [row for row in rows() if row.ours >= "500"]
    assert {row.ours[:3] for row in faults} == {"501", "503"}
    assert all("swarm" in row.ours or "checkpoints" in row.ours for row in faults)


def test_another_status_has_a_reason() -> None:
    for row in rows():
        if row.ours[:3] != row.theirs[:3] and not row.theirs.startswith("500"):
            assert any(re.match(pattern, row.request) for pattern, _ in REASONS), row


@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.slow
@needs("nft")
def test_we_answer_as_was_recorded(tmp_path: Path) -> None:
    """All of them again, in their order, to a server with one image on a machine of its own."""
    need("nsenter", "unshare")
    with network_namespace() as pid:
        pybuild = NetworkedPybuild(tmp_path / "store", pid=pid)
        make_base(pybuild, tmp_path / "context", "busybox")
        (tmp_path / "s").mkdir()
        with daemon(pybuild, tmp_path / "s", "--docker-socket", str(tmp_path / "s/d")):
            others = [
                (row.request, row.ours, answer)
                for row in rows()
                if (answer := ask(str(tmp_path / "s/d"), row.request)) != row.ours
            ]
        assert not others
    assert settled(lambda: not leftovers(pybuild.store))
