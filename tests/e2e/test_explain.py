"""Each of many single causes is named exactly, by the store's own results [issue 6, show 1]."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.causes import CASES, Case, Site, edit, file, nothing
from tests.e2e.mutations import copy, explained, prepare
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store and a context that was built there; to be copied, never used."""
    where = tmp_path_factory.mktemp("explained")
    prepare(where)
    yield where


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Site:
    for name in ("store", "context"):
        copy(built / name, tmp_path / name)
    return Site(Pybuild(tmp_path / "store"), tmp_path / "context")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_single_cause_is_named_exactly(built: Path, tmp_path: Path, case: Case) -> None:
    assert explained(case, built, tmp_path, imports=False)


def touch(context: Path) -> None:
    for path in context.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)


def link(context: Path) -> None:
    os.link(context / "src/a", context.parent / "other-name")


def move(site: Site) -> None:
    elsewhere = site.context.rename(site.context.with_name("elsewhere"))
    site.context.symlink_to(elsewhere)


def give_away(context: Path) -> None:
    if os.geteuid() == 0:
        for path in context.rglob("*"):
            os.chown(path, 12, 34, follow_symlinks=False)


SAME: dict[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "times of files": (file(touch), ()),
    "owners of files": (file(give_away), ()),
    "another name for a file": (file(link), ()),
    "where the context is": (move, ()),
    "a file that nobody reads": (file(lambda c: (c / "unread").write_text("x")), ()),
    "an ignored file": (file(lambda c: (c / "src/y.log").write_text("x")), ()),
    "a proxy": (nothing, ("--build-arg=HTTP_PROXY=http://10.0.0.1:1",)),
    "value of a secret": (
        file(lambda c: (c.parent / "secret").write_text("other")),
        ("--secret=id=s,src=secret",),
    ),
    "limits": (nothing, ("--shm-size=1m", "--memory=512m")),
    "labels": (nothing, ("--label=a=b",)),
    "metadata": (edit("USER root", "LABEL a=b\nEXPOSE 80\nUSER root\nCMD x\nVOLUME /v"), ()),
    "comments": (edit("USER root", "# a comment\nUSER root"), ()),
    "line breaks and casing": (edit("RUN --network=none echo", "run --network=none \\\n echo"), ()),
    "name of a stage": (edit("tools", "implements"), ()),
    "id of a context": (nothing, ("--build-context=unused=.",)),
}


@pytest.mark.parametrize("name", SAME)
def test_what_never_counts_makes_no_step_run(site: Site, name: str) -> None:
    """[KEY-1, KEY-2, KEY-8]"""
    mutate, options = SAME[name]
    (site.context.parent / "secret").write_text("one")
    mutate(site)
    # A filter of no stage is seen by the engine alone: no memo answers in its place.
    words = ["build", "-q", "--fail-on-miss", "--no-cache-filter=", *options]
    site.pybuild(*words, site.context, cwd=site.context.parent)


@pytest.mark.parametrize(
    "case", [one for one in CASES if one.reason != "evicted"], ids=lambda case: case.name
)
def test_a_single_cause_is_named_exactly_on_a_machine_that_imports(
    built: Path, tmp_path: Path, case: Case
) -> None:
    """It never built any of this: all that it knows of it is in the cache."""
    assert explained(case, built, tmp_path, imports=True)


def test_what_was_imported_and_is_gone_is_told(built: Path, tmp_path: Path) -> None:
    for name in ("fresh", "cache"):
        copy(built / name, tmp_path / name)
    for path in (tmp_path / "cache/blobs/sha256").iterdir():
        if path.read_bytes()[:1] != b"{":
            path.unlink()
    site = Site(Pybuild(tmp_path / "fresh"), built / "context")
    site.build("--cache-from", f"type=local,src={tmp_path / 'cache'}")
    steps = [step for step in site.explained()["steps"] if step["miss"]]
    assert {step["miss"]["reason"] for step in steps} == {"evicted"}
    assert "its layers are there no more" in site.pybuild("explain").out


def test_nothing_runs_where_no_step_may_miss(site: Site) -> None:
    site.build("--fail-on-miss")
    site.edit("echo last", "echo least")
    done = site.pybuild("build", "-q", "--fail-on-miss", site.context, code=1)
    assert (
        'error: "[stage-1 8/8] RUN --network=none echo least" is not cached: '
        'command was "echo last", is "echo least"' in done.err
    )
    report = site.explained()
    assert [step["status"] for step in report["steps"]].count("cached") == len(report["steps"]) - 1
    assert [step["status"] for step in report["steps"]][-1] == "missed"
    site.pybuild("explain", "--fail-on-miss", code=1)


def test_a_step_that_fails_is_explained_too(site: Site) -> None:
    site.edit("echo last", "exit 7")
    done = site.pybuild("build", "--progress=plain", "--explain", site.context, code=1)
    assert "FAILED" in done.err
    assert 'because command was "echo last", is "exit 7"' in done.err


def test_builds_and_steps_are_found_by_what_people_call_them(site: Site) -> None:
    shown = json.loads(site.pybuild("explain", "--format=json").out)
    assert shown == json.loads(json.dumps(site.explained()))
    site.build("--build-arg=VERSION=2")
    latest, first = site.pybuild("explain", "--list").out.splitlines()[:2]
    assert "8 of 10 steps cached" in latest
    assert "0 of 10 steps cached" in first
    id = first.split()[1]
    assert site.pybuild("explain", id).out.startswith(first)
    one = site.pybuild("explain", id, "COPY src").out
    assert one.count("never built") == 1
    assert (
        'because ARG VERSION was "1", is "2" (Dockerfile:4)' in site.pybuild("explain", "7/8").out
    )
    for words, message in [
        (["zzz", "RUN"], 'error: no build "zzz" is known here'),
        (["nosuch"], 'has no step "nosuch"'),
    ]:
        assert message in site.pybuild("explain", *words, code=1).err
    assert 'invalid format "xml"' in site.pybuild("explain", "--format=xml", code=2).err


def test_a_store_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    done = Pybuild(tmp_path / "nosuch")("explain", code=1)
    assert "no build is known here: there is no store at" in done.err
    assert not (tmp_path / "nosuch").exists()
