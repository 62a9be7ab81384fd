"""``pybuild -H … explain``: a server tells why steps ran as a build in this process does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, write

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = """\
FROM base
ARG VERSION=1
ARG API_TOKEN=hunter2
COPY src/ /src/
RUN echo $VERSION > /v
"""


def context_in(tmp_path: Path, place: str = "/src/") -> Path:
    """Make a context whose steps are like those of no other *place*; the server is shared."""
    files = {
        "Dockerfile": DOCKERFILE.replace("/src/", place),
        "src/a": "a\n",
        "src/b": "b\n",
        ".dockerignore": "*.md\n",
    }
    return write(tmp_path / "c", **files)


def same(report: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that must be equal: all but those of one build, and the line of an ignore file."""
    kept = {key: report[key] for key in ("dockerfile", "target", "error")}
    steps: list[dict[str, Any]] = []
    for step in report["steps"]:
        miss = step["miss"]
        if miss is not None:
            notes = [
                re.sub(r"\.dockerignore line \d+|the ignore file", "", one["note"])
                for one in miss["differences"]
            ]
            miss = {
                **miss,
                "differences": [
                    {**one, "note": note}
                    for one, note in zip(miss["differences"], notes, strict=True)
                ],
            }
        steps.append({"name": step["name"], "status": step["status"], "miss": miss})
    return {**kept, "steps": steps}


def test_reasons_are_those_of_a_build_in_this_process(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    context = context_in(tmp_path)

    def ignore_b() -> None:
        (context / ".dockerignore").write_text("*.md\nsrc/b\n")

    mutations: list[tuple[tuple[str, ...], Any]] = [
        ((), lambda: (context / "src/a").write_text("A\n")),
        (("--build-arg", "VERSION=2"), lambda: None),
        (("--build-arg", "API_TOKEN=other"), lambda: None),
        ((), lambda: (context / "src/new").write_text("n\n")),
        ((), ignore_b),
        (("--no-cache",), lambda: None),
        (("-f", "Missing"), lambda: None),
    ]
    told: list[list[dict[str, Any]]] = []
    for run in (pybuild, remote):
        context_in(tmp_path)
        (context / "src/new").unlink(missing_ok=True)
        run("build", "-q", context)
        told.append([])
        for words, mutate in mutations:
            mutate()
            run("build", "-q", "--progress", "none", *words, context, code=None)
            report = json.loads(run("explain", "--format=json").out)
            told[-1].append(same(report))
            assert "hunter2" not in json.dumps(report)
    for here, far in zip(*told, strict=True):
        assert far == here
    fields = [
        difference["field"]
        for report in told[1]
        for step in report["steps"]
        if step["miss"]
        for difference in step["miss"]["differences"][:1]
    ]
    assert {"file.content", "arg.VERSION", "file.added", "file.ignored"} <= set(fields)


def test_it_is_said_at_the_end_and_listed(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    context = context_in(tmp_path, "/listed/")
    remote("build", "-q", context)
    (context / "src/a").write_text("changed\n")
    done = remote("build", "--explain", "--progress", "none", context)
    assert "because the content of /src/a differs" in done.err
    with (context / "Dockerfile").open("a") as file:
        file.write("RUN exit 3\n")
    done = remote("build", "--explain", "--progress", "none", context, code=1)
    assert "FAILED" in done.err and "RUN exit 3" in done.err
    build = re.findall(r"build ([0-9a-f]{8})", remote("explain", "--list").out)[1]
    assert build in remote("explain", build, "RUN").out
    assert remote("explain", "--fail-on-miss", code=1).code == 1
    assert 'no build "ffff' in remote("explain", "ffff", "RUN", code=1).err


def test_a_server_can_be_told_to_let_nothing_run(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    context = context_in(tmp_path, "/refused/")
    for run in (pybuild, remote):
        (context / "src/a").write_text("a\n")
        run("build", "-q", context)
        assert run("build", "-q", "--fail-on-miss", context).code == 0
        (context / "src/a").write_text("other\n")
    words = ("build", "--progress", "none", "--fail-on-miss", context)
    here, far = pybuild(*words, code=1), remote(*words, code=1)
    assert far.err == here.err
    assert "is not cached: the content of /src/a differs" in far.err
