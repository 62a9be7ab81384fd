"""``pybuild -H … history``: the builds of a server by BuildKit's API, and in its store by ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, write

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def test_a_servers_builds_are_listed_shown_and_forgotten(
    remote: Remote, there: Pybuild, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("the-mounted-secret")
    text = "FROM base\nARG API_TOKEN\nRUN --mount=type=secret,id=key,env=K echo far away $K $API_TOKEN; exit 5\n"
    context = write(tmp_path / "c", Dockerfile=text)
    words = ["--secret", f"id=key,src={tmp_path}/key", "--build-arg", "API_TOKEN=hunter2-hunter2"]
    remote("build", *words, context, code=1)
    [ref] = remote("history", "ls", "-q", "--filter", "status=error").out.split()
    shown = json.loads(remote("history", "inspect", "--format", "json", ref).out)
    assert shown["Status"] == "failed"
    assert "exit code: 5" in shown["Error"]["Message"]
    assert "hunter2" not in json.dumps(shown)
    assert " far away " in remote("history", "logs", ref).out

    # Who has the server's store finds the same build in it, by the same name.
    own = json.loads(there("history", "inspect", "--format", "json", ref).out)
    assert (own["ClientRef"], own["Status"]) == (ref, "failed")
    assert own["Error"]["Logs"] == ["far away [redacted] [redacted]"]
    assert " far away [redacted] [redacted]\n" in there("history", "logs", ref).out
    data = b"".join(file.read_bytes() for file in (there.store / "builds").iterdir())
    assert b"hunter2" not in data
    assert b"the-mounted-secret" not in data

    remote("history", "rm", ref)
    assert ref not in remote("history", "ls", "-q").out.split()
