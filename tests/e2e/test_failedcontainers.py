"""A step that fails leaves a container, in which people look for the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, leftovers, write

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
TEXT = """\
FROM base
ARG TOOL=1
ENV A=b
RUN echo nobody:x:12:12::/:/bin/sh > /etc/passwd
WORKDIR /src
USER 12
USER 0
RUN --mount=type=cache,target=/cache echo half > made; exit 3
"""


def left_in(pybuild: Pybuild) -> list[Path]:
    """The file that the failed step wrote, in each tree of the store that has it."""
    return list((pybuild.store / "snapshots").rglob("src/made"))


def test_a_failed_step_becomes_a_container_of_its_tree(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    assert base
    context = write(tmp_path / "c", Dockerfile=TEXT)
    words = ("build", "--on-fail-container", "broken", context)
    done = pybuild(*words, code=1)
    assert "hint: look around in it: pybuild start -ai broken" in done.err
    assert "hint: mounts of the step are not in it: /cache" in done.err

    script = "cat made; pwd; echo $A-$TOOL; exit 9\n"
    (shown,) = json.loads(pybuild("inspect", "broken").out)
    assert shown["Config"]["WorkingDir"] == "/src"
    assert shown["Config"]["Cmd"] == ["/bin/sh"]
    assert shown["Config"]["Labels"]["pybuild.failed-step"].startswith("[4/4] RUN")
    pybuild("cp", "broken:/src/made", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "half\n"
    pybuild("prune", "-f", "--all")
    # Its terminal is one: words come back as they are typed, lines end as a terminal's do.
    out = pybuild("start", "-ai", "broken", stdin=script.encode(), code=None).out
    assert ["half", "/src", "b-1"] == [
        line for line in out.splitlines() if line in ("half", "/src", "b-1")
    ]

    # The next failure takes its place.
    first = shown["Id"]
    assert len(left_in(pybuild)) == 1
    pybuild(*words, code=1)
    (again,) = json.loads(pybuild("inspect", "broken").out)
    assert again["Id"] != first
    pybuild("rm", "-f", "broken")
    pybuild("prune", "-f", "--all")
    assert leftovers(pybuild.store) == []
    assert left_in(pybuild) == []


def test_a_container_of_that_name_stays(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    pybuild("create", "--name", "broken", base, "true")
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN exit 3\n")
    done = pybuild("build", "--on-fail-container", "broken", context, code=1)
    assert "exit code: 3" in done.err
    assert "hint: it could not be kept: " in done.err
    assert "broken" in done.err
    (kept,) = json.loads(pybuild("inspect", "broken").out)
    assert kept["Config"]["Image"] == base


def test_files_and_a_container_of_one_step(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    assert base
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN echo x > /new; exit 3\n")
    out = tmp_path / "out"
    words = ("--on-fail-container", "broken", "--on-fail-output", out)
    pybuild("build", *words, context, code=1)
    assert (out / "new").read_text() == "x\n"
    assert "broken" in pybuild("ps", "-a").out


def test_the_hint_about_a_variable_hides_no_other(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    text = f"ARG VERSION=1\nFROM {base}\nRUN echo $VERSION; exit 3\n"
    context = write(tmp_path / "c", Dockerfile=text)
    done = pybuild("build", "--on-fail-container", "broken", context, code=1)
    assert "hint: $VERSION has no value in this RUN" in done.err
    assert "hint: look around in it: pybuild start -ai broken" in done.err


def test_nothing_is_made_where_nothing_fails(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN true\n")
    for _ in range(2):
        pybuild("build", "--on-fail-container", "broken", context)
    context = write(tmp_path / "d", Dockerfile=f"FROM {base}\nCOPY nothing /\n")
    pybuild("build", "--on-fail-container", "broken", context, code=1)
    assert "broken" not in pybuild("ps", "-a").out


def test_a_server_has_no_containers_of_ours(remote: Remote, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN exit 3\n")
    done = remote("build", "--on-fail-container", "broken", context, code=2)
    assert "error: --on-fail-container is about the containers of this machine" in done.err
    assert "hint: get files of the step instead: --on-fail-output DIR" in done.err
