"""``--on-fail ask`` at a real terminal: a shell in the failed step, its log, once more, and the ways out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.people import Person
from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, leftovers, write

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
MENU = b"[q]uit > "
TEXT = """\
FROM base
ENV A=b
RUN mkdir /src; chown app /src
WORKDIR /src
USER app
COPY --chown=app one two /src/
RUN --network=none --mount=type=cache,target=/cache,uid=1000 --mount=type=secret,id=key,uid=1000 \\
    --mount=from=base,target=/other,rw --mount=type=tmpfs,target=/gone \\
    echo half > made; rm one; echo kept > /cache/kept; echo over > /other/tmp/over; echo said it; exit 3
"""


def at_terminal(pybuild: Pybuild, *options: str | Path) -> Person:
    words = pybuild.command("build", "--on-fail", "ask", *options)
    return Person(words, {**pybuild.environment, "NO_COLOR": "1", "TERM": "vt220"}, (24, 160))


def assert_nothing_is_left(pybuild: Pybuild) -> None:
    assert leftovers(pybuild.store) == []
    assert list((pybuild.store / "snapshots").rglob("src/made")) == []
    assert pybuild("ps", "-aq").out == ""


def test_a_shell_sees_what_the_step_saw(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=TEXT, one="1", two="2", key="hidden value")
    secret = f"id=key,src={context}/key"
    person = at_terminal(pybuild, "--secret", secret, context)
    person.expect(b"error: exit code: 3")
    person.expect(b"Dockerfile:7")
    person.expect(MENU)
    for _ in range(2):  # the second shell begins with what the step left, too
        person.type(b"s")
        person.expect(b"empty here, they were the step's alone: /gone")
        person.expect(b"$ ")
        person.type(b"echo $(pwd) $A $(id -u) $(cat made) $(ls) .\n")
        person.expect(b"/src b 1000 half made two .")
        person.type(b"echo $(cat /cache/kept /other/tmp/over /run/secrets/key) .\n")
        person.expect(b"kept over hidden value .")
        person.type(b"echo $(grep -c : /proc/net/dev) $TERM $(tty) .\n")
        person.expect(b"1 vt220 ")
        person.type(b"rm made; sh -c 'echo begun; exec sleep 600'\n")
        person.expect(b"begun\r\n")
        person.type(b"\x03")
        person.expect(b"$ ")
        person.type(b"exit 5\n")
        person.expect(MENU)
    person.type(b"l")
    person.expect(b"| said it")
    person.expect(b"FAILED")
    person.expect(b"never built")
    person.expect(b"key sha256:")
    person.expect(MENU)
    person.type(b"?q")
    person.type(b"q")
    assert person.status() == 1
    assert b"error:" not in person.screen
    known = json.loads(pybuild("history", "ls", "--format", "json").out.splitlines()[0])
    assert known["status"].lower() == "error"
    assert_nothing_is_left(pybuild)


def test_once_more_after_mending(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    text = f"FROM {base}\nRUN echo first\nCOPY script /\nRUN sh /script\n"
    context = write(tmp_path / "c", Dockerfile=text, script="exit 4")
    person = at_terminal(pybuild, "-t", "done", context)
    person.expect(b"error: exit code: 4")
    person.expect(MENU)
    write(context, script="exit 5")
    person.type(b"r")
    person.expect(b"CACHED")
    person.expect(b"error: exit code: 5")
    person.expect(MENU)
    write(context, Dockerfile="FORM base\n")
    person.type(b"r")
    person.expect(b"unknown instruction: FORM")
    person.expect(b"[r]etry  [q]uit > ")
    write(context, Dockerfile=text, script="exit 0")
    person.type(b"r")
    assert person.status() == 0
    assert b"built" in person.screen or b"sha256" in person.screen
    assert pybuild("run", "--rm", "done", "sh", "-c", "echo it runs").out == "it runs\n"


@pytest.mark.parametrize("key", [b"q", b"\x03", b"\x04"])
def test_the_ways_out(pybuild: Pybuild, base: str, tmp_path: Path, key: bytes) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN exit 3\n")
    person = at_terminal(pybuild, context)
    person.expect(MENU)
    person.type(key)
    assert person.status() == 1
    assert_nothing_is_left(pybuild)


def test_a_terminal_that_goes_away_ends_the_build(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN exit 3\n")
    person = at_terminal(pybuild, context)
    person.expect(MENU)
    person.type(b"s")
    person.expect(b"# ")
    person.type(b"sleep 600 & echo $((6*7))\n")
    person.expect(b"42")
    assert person.hang_up() != 0
    assert_nothing_is_left(pybuild)


def test_a_tree_without_a_shell(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    text = f'FROM scratch\nCOPY --from={base} /bin/busybox /run-it\nRUN ["/run-it", "false"]\n'
    person = at_terminal(pybuild, write(tmp_path / "c", Dockerfile=text))
    person.expect(MENU)
    person.type(b"s")
    person.expect(b'exec: "/bin/sh": no such file or directory')
    person.expect(MENU)
    person.type(b"q")
    assert person.status() == 1


def test_without_a_terminal_nobody_is_asked(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN exit 3\n")
    done = pybuild("build", "--on-fail", "ask", context, code=1)
    assert done.err.count("hint: --on-fail ask: nobody can be asked") == 1
    assert "[q]uit" not in done.err
    write(context, Dockerfile="FORM base\n")
    assert "[q]uit" not in pybuild("build", "--on-fail", "ask", context, code=1).err
    write(context, Dockerfile=f"FROM {base}\nRUN true\n")
    pybuild("build", "--on-fail", "ask", context)


def test_a_container_of_the_step_too(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN exit 3\n")
    person = at_terminal(pybuild, "--on-fail-container", "broken", context)
    person.expect(b"pybuild start -ai broken")
    person.expect(MENU)
    person.type(b"q")
    assert person.status() == 1
    assert "broken" in pybuild("ps", "-a").out


def test_a_server_has_no_terminal_of_ours(remote: Remote, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN exit 3\n")
    done = remote("build", "--on-fail", "ask", context, code=2)
    assert "error: --on-fail ask gives a shell in steps of this machine" in done.err
