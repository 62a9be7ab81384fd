"""Targets of a bake that are as they were are answered from their memos; one that is not is built [KEY-11]."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.bake.command import builds_of
from pybuild.builds import memo
from pybuild.builds.manymemos import Looks, Memos
from pybuild.commandline.parser import Parsed
from pybuild.commands.bake import request_of
from tests.harness import Pybuild, write

DEFINITION = """
group "default" { targets = ["app", "web"] }
target "lib" { context = "lib" }
target "app" {
  contexts = { lib = "target:lib" }
  dockerfile = "app.Dockerfile"
  tags = ["app:1"]
}
target "web" {
  dockerfile-inline = "FROM lib\\nCOPY web /w\\n"
  contexts = { lib = "target:lib" }
  tags = ["web:1"]
}
target "alone" {
  dockerfile-inline = "FROM scratch\\nCOPY web /w\\n"
  tags = ["alone:1"]
}
"""


@pytest.fixture
def monorepo(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "monorepo"
    write(
        root,
        **{
            "docker-bake.hcl": DEFINITION,
            "app.Dockerfile": "FROM lib\nCOPY app /a\n",
            "app": "app\n",
            "web": "web\n",
        },
    )
    write(root / "lib", Dockerfile=f"FROM {base}\nCOPY f /lib\n", f="f\n", unread="-\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def answered(pybuild: Pybuild) -> Callable[..., list[str]]:
    """The names of the targets of a command line that memos answer."""

    def names(*targets: str) -> list[str]:
        parsed = Parsed()
        parsed.positionals = [*targets]
        builds = builds_of(parsed, request_of)
        return sorted(Memos(str(pybuild.store), builds).answers(lambda event: None))

    return names


def cat(pybuild: Pybuild, image: str, path: str) -> str:
    return pybuild("run", "--rm", "--network", "none", image, "cat", path).out


@pytest.mark.slow
def test_only_targets_that_a_change_reaches_are_built(
    pybuild: Pybuild, monorepo: Path, answered: Callable[..., list[str]]
) -> None:
    assert answered() == []
    assert pybuild("bake", "--affected", cwd=monorepo).out == "app\nweb\n"
    pybuild("bake", cwd=monorepo)
    assert answered() == ["app", "web"]
    (monorepo / "lib/unread").write_text("other\n")
    (monorepo / "app").write_text("changed\n")
    assert answered() == ["web"]
    assert pybuild("bake", "--affected", cwd=monorepo).out == "app\n"
    done = pybuild("bake", "--progress", "plain", cwd=monorepo)
    assert "COPY web /w" in done.err
    assert cat(pybuild, "app:1", "/a") == "changed\n"
    assert answered() == ["app", "web"]
    (monorepo / "lib/f").write_text("of lib\n")
    assert answered() == []
    pybuild("bake", cwd=monorepo)
    assert cat(pybuild, "web:1", "/lib") == "of lib\n"
    with (monorepo / "lib/Dockerfile").open("a") as file:
        file.write("ENV X=1\n")
    assert answered() == []
    pybuild("bake", cwd=monorepo)
    assert answered("app") == ["app"]
    pybuild("rmi", "web:1")
    assert answered() == ["app"]


@pytest.mark.slow
def test_what_is_answered_stands_in_the_history_and_among_the_results(
    pybuild: Pybuild, monorepo: Path, answered: Callable[..., list[str]]
) -> None:
    first = pybuild("bake", "--metadata-file", "m.json", cwd=monorepo)
    before = (monorepo / "m.json").read_text()
    assert answered() == ["app", "web"]
    again = pybuild("bake", "--metadata-file", "m.json", cwd=monorepo)
    assert (monorepo / "m.json").read_text() == before
    assert first.err.splitlines()[-2:] == again.err.splitlines()[-2:]


@pytest.mark.slow
def test_no_memo_answers_what_has_to_be_asked_each_time(
    pybuild: Pybuild,
    monorepo: Path,
    answered: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pybuild("bake", "alone", cwd=monorepo)
    assert answered("alone") == ["alone"]
    with (monorepo / "docker-bake.hcl").open("a") as file:
        file.write('target "alone" { no-cache = true }\n')
    assert answered("alone") == []
    write(monorepo, **{"policy.json": '{"rules": []}'})
    assert answered("app") == []
    pybuild("bake", "app", cwd=monorepo)
    assert answered("app") == ["app"]
    monkeypatch.setenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", str(monorepo / "policy.json"))
    assert answered("app") == []


def test_what_several_memos_name_is_looked_at_once(tmp_path: Path) -> None:
    looks, seen = Looks(), list[str]()

    def look(path: str) -> int:
        seen.append(path)
        return len(path)

    assert [looks(look, path) for path in ("ab", "c", "ab")] == [2, 1, 2]
    assert seen == ["ab", "c"]


def test_a_file_changed_this_moment_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("1")
    looks = Looks()
    now = (tmp_path / "f").stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: now)
    assert looks.sign_context(str(tmp_path), [""], []) is None
    monkeypatch.setattr(time, "time_ns", lambda: now + 10**9 * 3)
    signed = looks.sign_context(str(tmp_path), [""], [])
    assert signed is not None and memo.context_holds(signed, looks)
    assert looks.sign_context(str(tmp_path / "none"), [""], []) is None
