"""The stat-only look at a context: an equal signature must mean equal content."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.executor.trees.contextscan import scan_signature
from tests.executor.filetrees import Link, Spec, build, change

SPEC: Spec = {"src/a": "A", "src/d/b": "B", "doc/x.md": "X", "top": "T"}


def test_signature_is_stable_and_ignores_what_is_not_asked_for(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", SPEC)
    before = scan_signature(str(root), ["src"])
    assert scan_signature(str(root), ["/src/", "src/d"]) == before
    (root / "top").write_text("changed")
    (root / "new").mkdir()
    assert scan_signature(str(root), ["src"]) == before
    assert before[1] == max(
        os.lstat(p).st_ctime_ns for p in [root / "src", *(root / "src").rglob("*")]
    )


@pytest.mark.parametrize(
    "edit",
    [
        change(lambda r: (r / "src/a").write_text("x"), id="bytes"),
        change(lambda r: (r / "src/a").chmod(0o700), id="mode"),
        change(lambda r: (r / "src/new").touch(), id="new file"),
        change(lambda r: (r / "src/d/b").rename(r / "src/d/c"), id="name"),
        change(lambda r: (r / "src/d/b").unlink(), id="gone"),
        change(lambda r: (r / "src").rename(r / "old"), id="prefix gone"),
    ],
)
def test_signature_changes(tmp_path: Path, edit: Callable[[Path], object]) -> None:
    root = build(tmp_path / "ctx", SPEC)
    before = scan_signature(str(root), ["src"])[0]
    edit(root)
    assert scan_signature(str(root), ["src"])[0] != before


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("src/l", "../doc/x.md"),
        ("src/l", "/doc/x.md"),
        ("src/l", "d/../../doc/x.md"),
        ("src/d/l", "../../doc"),
    ],
)
def test_link_that_leads_out_of_the_prefix_widens_the_scan(
    tmp_path: Path, link: str, target: str
) -> None:
    """A wildcard may follow it [CP-6], so what it points to counts."""
    root = build(tmp_path / "ctx", {**SPEC, link: Link(target)})
    before = scan_signature(str(root), ["src"])[0]
    (root / "doc" / "x.md").write_text("changed")
    assert scan_signature(str(root), ["src"])[0] != before


def test_link_inside_the_prefix_does_not_widen(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {**SPEC, "src/l": Link("d/b"), "src/d/up": Link("../a")})
    before = scan_signature(str(root), ["src"])[0]
    (root / "top").write_text("changed")
    assert scan_signature(str(root), ["src"])[0] == before


def test_prefix_that_is_a_link_widens(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {**SPEC, "l": Link("doc")})
    before = scan_signature(str(root), ["l"])[0]
    (root / "doc" / "x.md").write_text("changed")
    assert scan_signature(str(root), ["l"])[0] != before


def test_ignored_files_do_not_count(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", SPEC)
    exclude = ["**/*.md", "src/d", "!src/d/keep"]
    before = scan_signature(str(root), [""], exclude)[0]
    (root / "doc/x.md").write_text("changed")
    (root / "src/d/b").write_text("changed")
    assert scan_signature(str(root), [""], exclude)[0] == before
    (root / "src/d/keep").touch()
    assert scan_signature(str(root), [""], exclude)[0] != before


def test_missing_prefix_counts_as_missing(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"a": ""})
    before = scan_signature(str(root), ["b/c"])[0]
    (root / "b").mkdir()
    (root / "b" / "c").touch()
    assert scan_signature(str(root), ["b/c"])[0] != before


@pytest.mark.slow
def test_signature_of_many_files_covers_each(tmp_path: Path) -> None:
    """They are digested piece by piece, and by OpenSSL."""
    root = build(tmp_path / "ctx", {f"d/{number}": "" for number in range(2500)})
    before = scan_signature(str(root))[0]
    assert scan_signature(str(root))[0] == before
    for number in (0, 1200, 2499):
        (root / f"d/{number}").chmod(0o755)
        after = scan_signature(str(root))[0]
        assert after != before
        before = after


def test_module_is_lean() -> None:
    """The fully cached path imports it: nothing that costs milliseconds may come along."""
    program = (
        "import sys; before = set(sys.modules); import pybuild.executor.trees.contextscan; "
        "print(*sorted(set(sys.modules) - before))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    heavy = {"asyncio", "dataclasses", "json", "typing", "re", "ctypes", "pathlib", "subprocess"}
    heavy.add("_hashlib")  # OpenSSL
    assert heavy.isdisjoint(out)
