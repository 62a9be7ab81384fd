"""Memos of builds: there is none where inputs may change without a file of ours that shows it [KEY-11]."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.builds.remembering import sign
from pybuild.builds.request import BuildRequest
from pybuild.exporter.attest.options import AttestOptions, Provenance
from pybuild.exporter.output import Output
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    LocalSource,
    Mount,
    OciLayoutSource,
    Op,
    ScratchSource,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from tests.builds.test_memo import Words

COMMIT = "0123456789" * 4
URL, REMOTE = "https://h.example/f", "https://h.example/x.git"


@pytest.fixture(autouse=True)
def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are older than a second."""
    now = time.time_ns() + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)


def signed(
    root: Path,
    *results: Vertex,
    epochs: tuple[Op, ...] = (),
    words: Words | None = None,
    exclude: tuple[str, ...] = (),
    **asked: Any,
) -> list[dict[str, Any]] | None:
    """Return the signatures of a build that has these results, with the directory as its context."""
    prepared = SimpleNamespace(
        request=BuildRequest(context=str(root), **asked),
        lowered=[SimpleNamespace(result=result) for result in results],
        epochs=[SimpleNamespace(op=op) for op in epochs],
        dockerfile=SimpleNamespace(lines=(), stages=()),
        inputs=SimpleNamespace(trees={"context": SimpleNamespace(path=str(root), exclude=exclude)}),
    )
    return asyncio.run(sign(words or Words([str(root)]), cast(Any, prepared)))


def copied(*sources: str, of: Op | None = None) -> Vertex:
    """A step that copies from the context, or from another source."""
    copies = tuple(Copy(input=1, source=source, dest="/") for source in sources)
    inputs = (Vertex(ScratchSource()), Vertex(of or LocalSource(name="context")))
    return Vertex(FileOp(actions=copies), inputs)


def mounted(selector: str) -> Vertex:
    mounts = (Mount(target="/m", input=1, selector=selector), Mount(target="/t", input=None))
    step = ExecOp(args=("true",), env=(), cwd="/", mounts=mounts, platform=LINUX_AMD64)
    return Vertex(step, (Vertex(ScratchSource()), Vertex(LocalSource(name="context"))))


@pytest.mark.parametrize(
    ("sources", "prefixes"),
    [
        (["/a/b"], ["a/b"]),
        (["/"], [""]),
        (["/a/*.c"], ["a"]),
        (["/a/x?/b"], ["a"]),
        (["/[ab]"], [""]),
        (["/a\\b"], [""]),
        (["/b", "/a"], ["a", "b"]),
        (["/link/x"], [""]),
        (["/a/link"], [""]),
    ],
)
def test_the_parts_that_copies_can_read_are_signed(
    tmp_path: Path, sources: list[str], prefixes: list[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a/link").symlink_to("/")
    contexts = signed(tmp_path, copied(*sources))
    assert contexts is not None
    assert [one["prefixes"] for one in contexts] == [prefixes]
    assert [one["path"] for one in contexts] == [str(tmp_path)]


def test_mounts_count_and_what_is_ignored_does_not(tmp_path: Path) -> None:
    contexts = signed(tmp_path, mounted("/m"), copied("/c"), exclude=("*.o",))
    assert contexts is not None
    assert [(one["prefixes"], one["exclude"]) for one in contexts] == [(["c", "m"], ["*.o"])]


def test_a_context_that_no_step_reads_is_not_signed(tmp_path: Path) -> None:
    assert signed(tmp_path, Vertex(ScratchSource())) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"outputs": (Output(type="tar", dest="-"),)},
        {"outputs": (Output(type="docker"),)},
        {"outputs": (Output(type="registry", attrs={"registry.insecure": "true"}),)},
        {"outputs": (Output(type="image", attrs={"push": "true", "push-by-digest": "true"}),)},
        {"outputs": (Output(type="local", dest="/x"), Output(type="oci", dest="-"))},
        {"outputs": (Output(type="image", attrs={"compression": "zstd"}),)},
        {"no_cache": True},
        {"no_cache_filter": ("x",)},
        {"max_ages": {"": 1.0}},
        {"breaks": object()},
        {"pull": True},
        {"attestations": AttestOptions(provenance=Provenance())},
        {"policies": object()},
        {"secrets": {"s": object()}},
        {"ssh": (object(),)},
    ],
)
def test_a_build_whose_result_no_file_shows_has_none(tmp_path: Path, asked: dict[str, Any]) -> None:
    assert signed(tmp_path, copied("/a"), **asked) is None


@pytest.mark.parametrize("kind", ["oci", "docker", "tar", "local", "cacheonly"])
def test_a_build_into_files_or_the_cache_has_one(tmp_path: Path, kind: str) -> None:
    outputs = (Output(type="image"), Output(type=kind, dest="" if kind == "cacheonly" else "/x"))
    assert signed(tmp_path, copied("/a"), outputs=outputs)


def test_annotations_are_part_of_an_image(tmp_path: Path) -> None:
    outputs = (Output(type="image", attrs={"annotation.a": "b"}),)
    assert signed(tmp_path, copied("/a"), outputs=outputs)


@pytest.mark.parametrize("kind", ["image", "registry"])
def test_a_push_can_be_asked_about(tmp_path: Path, kind: str) -> None:
    outputs = (Output(type=kind, attrs={"push": "true"}),)
    assert signed(tmp_path, copied("/a"), outputs=outputs)


def test_a_command_line_without_a_name_has_none(tmp_path: Path) -> None:
    assert signed(tmp_path, copied("/a"), words=Words(["-"])) is None


@pytest.mark.parametrize(
    ("source", "has_one"),
    [
        (HttpSource(url=URL), False),
        (HttpSource(url=URL, checksum=Digest.of(b"x")), True),
        (GitSource(remote=REMOTE, ref="main"), False),
        (GitSource(remote=REMOTE, ref=COMMIT[:39]), False),
        (GitSource(remote=REMOTE, ref=COMMIT + "a"), False),
        (GitSource(remote=REMOTE, ref=COMMIT), True),
        (GitSource(remote=REMOTE, ref=COMMIT + COMMIT[:24]), True),
        (GitSource(remote=REMOTE, ref="main", checksum=COMMIT), False),
        (GitSource(remote=REMOTE, ref="main", checksum=COMMIT, fetch_by_commit=True), True),
        (GitSource(remote=REMOTE, ref=COMMIT, checksum="012", fetch_by_commit=True), False),
        (OciLayoutSource(path="/l", digest=Digest.of(b"x"), platform=LINUX_AMD64), False),
    ],
)
def test_a_source_that_may_move_is_asked_each_time(
    tmp_path: Path, source: Op, has_one: bool
) -> None:
    assert (signed(tmp_path, copied("/", of=source)) is not None) is has_one
    assert (signed(tmp_path, epochs=(source,)) is not None) is has_one


def test_a_file_that_was_touched_this_moment_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("x")
    stamp = os.stat(tmp_path / "f").st_ctime_ns
    looks = iter([stamp, stamp + 10**9])
    monkeypatch.setattr(time, "time_ns", lambda: next(looks))
    assert signed(tmp_path, copied("/f"))


def test_a_file_that_is_touched_all_the_time_has_no_memo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("x")
    stamp = os.stat(tmp_path / "f").st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: stamp)
    assert signed(tmp_path, copied("/f")) is None
