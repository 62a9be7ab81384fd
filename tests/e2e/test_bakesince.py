"""``bake --since REV``: what a change in git reaches is built, by what targets read when they were built."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Pybuild, write
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DEFINITION = """
group "default" { targets = ["app", "web", "alone"] }
target "lib" { context = "lib" }
target "app" {
  context = "app"
  contexts = { lib = "target:lib" }
  tags = ["app:1"]
}
target "web" {
  dockerfile-inline = "FROM scratch\\nCOPY web /w\\n"
  tags = ["web:1"]
}
target "alone" {
  context = "alone"
  tags = ["alone:1"]
}
"""


@pytest.fixture
def checkout(tmp_path: Path, base: str) -> Path:
    need("git")
    root = tmp_path / "checkout"
    write(root, **{"docker-bake.hcl": DEFINITION, "web": "web\n", "README": "-\n"})
    write(root / "lib", Dockerfile=f"FROM {base}\nCOPY f /lib\n", f="f\n", unread="-\n")
    write(root / "app", Dockerfile="FROM lib\nCOPY . /a\n", f="f\n", notes="-\n")
    (root / "app/.dockerignore").write_text("notes\n")
    write(root / "alone", Dockerfile="FROM scratch\nCOPY f /\n", f="f\n")
    git(root, "init", "-q", "-b", "main")
    commit(root)
    return root


def git(root: Path, *words: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    subprocess.run(["git", *settings, *words], cwd=root, env=environ, check=True, timeout=60)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "more")


def affected(pybuild: Pybuild, root: Path, since: str = "HEAD") -> list[str]:
    return pybuild("bake", "--affected", "--since", since, cwd=root).out.split()


def test_of_targets_never_built_here_every_file_of_a_context_counts(
    pybuild: Pybuild, checkout: Path
) -> None:
    assert affected(pybuild, checkout) == []
    (checkout / "lib/unread").write_text("other\n")
    assert affected(pybuild, checkout) == ["app", "web"]  # all is the context of web
    commit(checkout)
    assert affected(pybuild, checkout) == []
    assert affected(pybuild, checkout, "HEAD^") == ["app", "web"]


def test_of_targets_built_here_what_they_read_counts(pybuild: Pybuild, checkout: Path) -> None:
    pybuild("bake", cwd=checkout)
    pybuild("rmi", "app:1", "web:1", "alone:1")  # all would be built, were it not for git
    assert affected(pybuild, checkout) == []
    for unread in ("README", "lib/unread", "app/notes"):
        (checkout / unread).write_text("other\n")
    (checkout / "app-2").mkdir()
    (checkout / "app-2/f").touch()
    assert affected(pybuild, checkout) == []
    (checkout / "lib/f").write_text("other\n")
    assert affected(pybuild, checkout) == ["app"]
    commit(checkout)
    (checkout / "app/new").touch()
    assert affected(pybuild, checkout) == ["app"]
    (checkout / "app/new").unlink()
    (checkout / "web").unlink()
    (checkout / "alone/Dockerfile").write_text("FROM scratch\nCOPY f /g\n")
    assert affected(pybuild, checkout) == ["alone", "web"]


def test_a_definition_that_changed_reaches_every_target(pybuild: Pybuild, checkout: Path) -> None:
    with (checkout / "docker-bake.hcl").open("a") as file:
        file.write('variable "X" {}\n')
    assert affected(pybuild, checkout) == ["alone", "app", "web"]


def test_what_is_reached_is_built_and_nothing_else(pybuild: Pybuild, checkout: Path) -> None:
    done = pybuild("bake", "--progress", "plain", "--since", "HEAD", cwd=checkout)
    assert (done.out, done.err) == ("", "")
    (checkout / "alone/f").write_text("other\n")
    # Their contexts: web has all of the checkout.
    done = pybuild("bake", "--progress", "plain", "--since", "HEAD", "app", "alone", cwd=checkout)
    assert "alone:1" in done.err
    assert "app" not in done.err
    assert pybuild("inspect", "app:1", code=None).code != 0


def test_what_is_no_revision_is_refused(pybuild: Pybuild, checkout: Path, tmp_path: Path) -> None:
    for wrong in ("nothing", "--all", "HEAD:lib"):
        done = pybuild("bake", f"--since={wrong}", cwd=checkout, code=None)
        assert done.code != 0
        assert f'"{wrong}" is no revision of this repository' in done.err
    outside = write(tmp_path / "outside", **{"docker-bake.hcl": DEFINITION})
    done = pybuild("bake", "--since", "HEAD", cwd=outside, code=None)
    assert done.code != 0
    assert "not a git repository" in done.err


def test_what_is_printed_and_drawn_is_what_would_be_built(pybuild: Pybuild, checkout: Path) -> None:
    def printed(*words: str) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(pybuild("bake", "--print", *words, cwd=checkout).out)
        return made

    def drawn(*words: str) -> str:
        return pybuild("bake", "--graph", "dot", *words, cwd=checkout).out

    assert printed("--since", "HEAD") == {"target": {}}
    assert drawn("--since", "HEAD") == "digraph bake {\n  rankdir=LR;\n}\n"
    (checkout / "lib/f").write_text("other\n")
    whole, part = printed("app"), printed("--since", "HEAD", "app", "alone")
    assert part == whole  # which has lib, since app reads it
    assert drawn("--since", "HEAD", "app", "alone") == drawn("app")
    (checkout / "printed.json").write_text(json.dumps(part))
    pybuild("bake", "-f", "printed.json", cwd=checkout)
    assert "app" in pybuild("images", cwd=checkout).out


def test_a_definition_from_standard_input_is_read_once(pybuild: Pybuild, checkout: Path) -> None:
    (checkout / "lib/f").write_text("other\n")
    for words in ((), ("--print",), ("--graph", "dot"), ("--affected",)):
        done = subprocess.run(
            pybuild.command("bake", "-f", "-", "--since", "HEAD", "app", *words),
            env=pybuild.environment,
            cwd=checkout,
            input=DEFINITION,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
