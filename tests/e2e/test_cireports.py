"""Builds in CI tell its pages how they went."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, write

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
FILE = "FROM base\nRUN echo one\nRUN echo two && exit 3\n"


def test_github_is_told_of_failures_and_gets_a_page(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    write(tmp_path / "sub/app", Dockerfile=FILE)
    page = tmp_path / "page.md"
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(page),
        "GITHUB_WORKSPACE": str(tmp_path),
    }
    done = pybuild("build", "app", cwd=tmp_path / "sub", env=github, code=1)
    (line,) = [line for line in done.err.splitlines() if line.startswith("::")]
    assert line.startswith("::error file=sub/app/Dockerfile,line=3,endLine=3,title=[3/3] RUN echo")
    first = page.read_text()
    assert "### pybuild app: failed in" in first and "0 of 3 steps cached (0 %)" in first
    assert "build with --cache URL" in first.replace("\\", "")
    write(tmp_path / "sub/app", Dockerfile=FILE.replace("3", "0"))
    for _ in range(2):  # a build that is answered from its memo has a page too
        pybuild("build", "app", cwd=tmp_path / "sub", env=github)
    added = page.read_text().removeprefix(first)
    assert added.count("### pybuild app: built in") == 2 and "3 of 3 steps cached" in added
    off = pybuild("build", "--annotations=none", "app", cwd=tmp_path / "sub", env=github)
    assert "::" not in off.err and page.read_text() == first + added


def test_files_of_reports_are_written(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=FILE)
    quality, tests = tmp_path / "q.json", tmp_path / "t.xml"
    words = ("--annotations", f"gitlab={quality}", "--annotations", f"junit={tests}")
    pybuild("build", *words, context, env={"CI_PROJECT_DIR": str(tmp_path)}, code=1)
    (issue,) = json.loads(quality.read_text())
    assert issue["location"] == {"path": "c/Dockerfile", "lines": {"begin": 3}}
    root = ElementTree.fromstring(tests.read_text())
    assert root.get("failures") == "1" and root.get("tests") == "3"
    write(context, Dockerfile=FILE.replace("3", "0"))
    for _ in range(2):
        pybuild("build", *words, context)
        assert json.loads(quality.read_text()) == []
        assert ElementTree.fromstring(tests.read_text()).get("failures") == "0"


def test_what_cannot_be_reported_is_refused_before_anything_runs(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=FILE)
    done = pybuild("build", "--annotations=jenkins", context, code=2)
    assert "invalid annotations" in done.err and "junit[=FILE]" in done.err
    pybuild("build", f"--annotations=junit={tmp_path}/no/t.xml", context, code=2)


def test_a_build_server_and_a_bake_are_reported_too(
    remote: Remote, pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=FILE, **{"docker-bake.hcl": 'target "a" {}\n'})
    page = tmp_path / "page.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    done = remote("build", ".", cwd=context, env=env, code=1)
    assert "::error file=Dockerfile,line=3," in done.err and "failed in" in page.read_text()
    done = pybuild("bake", "a", cwd=context, env=env, code=1)
    assert "::error file=Dockerfile,line=3," in done.err and page.read_text().count("###") == 2
