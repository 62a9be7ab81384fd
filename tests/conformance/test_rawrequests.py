"""The answers to raw requests that are recorded of dockerd and of us [ENG-20]."""

from __future__ import annotations

import re

from tests.conformance.rawrequests import REASONS, requests, rows


def test_each_request_has_both_answers() -> None:
    known = rows()
    assert [row.request for row in known] == requests()
    assert len(known) >= 300
    assert all(row.theirs and row.ours for row in known)


def test_we_answer_with_no_fault_of_the_server() -> None:
    """But that nobody here is a manager of swarms."""
    faults = [row for row in rows() if row.ours >= "500"]
    assert {row.ours[:3] for row in faults} == {"503"}
    assert all("swarm" in row.ours for row in faults)


def test_another_status_has_a_reason() -> None:
    for row in rows():
        if row.ours[:3] != row.theirs[:3] and not row.theirs.startswith("500"):
            assert any(re.match(pattern, row.request) for pattern, _ in REASONS), row
