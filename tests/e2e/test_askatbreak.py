"""``--break`` at a real terminal: a build stands before and after steps, with a shell in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.people import Person
from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, leftovers, write

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
MENU = b"[q]uit > "
TEXT = """\
FROM base AS lib
RUN echo lib > /lib-made
FROM base
ENV A=b
COPY --from=lib /lib-made /got
RUN --mount=type=secret,id=key \\
    echo $(cat /got) > /made
RUN echo last > /last
"""


def at_terminal(pybuild: Pybuild, *options: str | Path) -> Person:
    words = pybuild.command("build", *options)
    return Person(words, {**pybuild.environment, "NO_COLOR": "1"}, (24, 160))


def test_a_build_stands_before_and_after_a_step(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    assert base
    context = write(tmp_path / "c", Dockerfile=TEXT, key="hidden value")
    options = ("--secret", f"id=key,src={context}/key", "-t", "made", context)
    pybuild("build", *options)
    # What has a break point runs, though it is stored.
    person = at_terminal(pybuild, "--break", "7", "--break", "after:6", *options)
    person.expect(b"stopped before [stage-1 3/4] RUN")
    person.expect(b" (line 6)")
    person.expect(MENU)
    person.type(b"s")
    person.expect(b"# ")
    person.type(b"echo $(cat /got /run/secrets/key) $A $(ls /made 2>&1) .\n")
    person.expect(b"lib hidden value b ls: /made: No such file or directory .")
    person.type(b"echo changed > /got; exit\n")
    person.expect(MENU)
    person.type(b"c")
    person.expect(b"stopped after [stage-1 3/4] RUN")
    person.expect(MENU)
    person.type(b"s")
    person.expect(b"# ")
    person.type(b"echo $(cat /made) .\n")
    person.expect(b"lib .")
    person.type(b"exit\n")
    person.expect(MENU)
    person.type(b"c")
    assert person.status() == 0
    assert pybuild("run", "--rm", "made", "cat", "/made", "/last").out == "lib\nlast\n"
    assert leftovers(pybuild.store) == []


def test_a_stage_from_step_to_step(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    assert base
    context = write(tmp_path / "c", Dockerfile=TEXT.replace("FROM base\n", "FROM base AS app\n"))
    person = at_terminal(pybuild, "--no-cache", "--break", "lib", context)
    person.expect(b"stopped before [lib 2/2] RUN")
    person.expect(MENU)
    person.type(b"n")
    person.expect(b"stopped before [app 2/4] COPY")
    person.expect(MENU)
    person.type(b"s")  # a tree without a process of its own
    person.expect(b"# ")
    person.type(b"echo $(ls /got 2>&1) .\n")
    person.expect(b"ls: /got: No such file or directory .")
    person.type(b"exit\n")
    person.expect(MENU)
    person.type(b"c")
    assert person.status() == 0


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_leaving_ends_the_build(pybuild: Pybuild, base: str, tmp_path: Path, key: bytes) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN true\n")
    person = at_terminal(pybuild, "--break", "2", "-t", "made", context)
    person.expect(MENU)
    person.type(key)
    assert person.status() == 130
    assert b"error: left before [2/2] RUN true" in person.screen
    assert "made" not in pybuild("images").out
    assert leftovers(pybuild.store) == []


def test_a_failure_behind_a_stop_is_asked_about(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN exit 3\n")
    person = at_terminal(pybuild, "--break", "2", "--on-fail", "ask", context)
    person.expect(MENU)
    person.type(b"c")
    person.expect(b"error: exit code: 3")
    person.expect(b"[r]etry  [q]uit > ")
    person.type(b"q")
    assert person.status() == 1


def test_places_without_a_step(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    text = f"FROM {base} AS app\nENV A=b\nRUN true\n"
    context = write(tmp_path / "c", Dockerfile=text)
    for place, hint in (
        ("2", b"hint: the next step of this build is on line 3"),
        ("9", b"hint: steps of this build are on the lines 3"),
        ("after:nope", b"hint: steps of this build are on the lines 3"),
    ):
        person = at_terminal(pybuild, "--break", place, context)
        assert person.status() == 1
        assert f"error: --break {place}: no step there".encode() in person.screen
        assert hint in person.screen


def test_without_a_terminal_it_is_refused(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN true\n")
    done = pybuild("build", "--break", "2", context, code=2)
    assert "error: --break asks at a terminal" in done.err


def test_a_server_stops_nowhere(remote: Remote, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN true\n")
    done = remote("build", "--break", "2", context, code=2)
    assert "error: --break gives a shell in steps of this machine" in done.err
