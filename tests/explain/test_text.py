"""Explanations as people read them; nothing that a build names speaks to the terminal."""

from __future__ import annotations

import pytest

from pybuild.explain.difference import Difference
from pybuild.explain.report import BuildReport
from pybuild.explain.text import difference_text, list_text


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("new\nline", r"/new\nline was removed"),
        ("\x1b[31mred", r"/\x1b[31mred was removed"),
        ("\udcff\udcfe", r"/\xff\xfe was removed"),
        ("zwei  Wörter", "/zwei  Wörter was removed"),
    ],
)
def test_names_of_files_are_escaped_and_stay_apart(path: str, shown: str) -> None:
    assert difference_text(Difference(field="file.removed", path=path, was="file")) == shown


def test_contents_without_a_name_are_told_without_one() -> None:
    told = difference_text(Difference(field="content", was="sha256:1", now="sha256:2"))
    assert told == "the content differs (its files are not listed)"


def test_a_build_takes_one_line_whatever_its_files_are_called() -> None:
    report = BuildReport(
        id="1", at=0, seconds=0, context="a\nb", dockerfile="D\x1b[31m", target="t\n"
    )
    line = list_text([report])
    assert line.endswith("\n") and line[:-1].isprintable()
    assert r"a\nb (D\x1b[31m target t\n)" in line


def test_an_order_of_mounts_is_that_of_no_mount_alone() -> None:
    one = Difference(field="mount.order", was="/, /a", now="/a, /")
    assert difference_text(one) == 'mount order was "/, /a", is "/a, /"'
