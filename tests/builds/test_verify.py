"""Two builds' differences as text."""

from __future__ import annotations

import pytest

from pybuild.builds.verify import Verdict, verdict_text
from pybuild.cli import main
from pybuild.image.compare import ImageDifference
from pybuild.model.digest import Digest

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")


def test_equal_images_are_one_line() -> None:
    assert verdict_text(Verdict(first=ONE, second=ONE)) == f"the same image twice: {ONE}\n"


def test_differences_stand_below_the_step_that_made_them() -> None:
    run = "RUN date\x1b[2J > /d"
    differences = (
        ImageDifference(what="content", step=run, path="d", was="x31", now="x32", offset=7),
        ImageDifference(what="only in the first", step=run, path="e"),
        ImageDifference(what="only in the second", step=run, path="f"),
        ImageDifference(what="mtime", step=run, path="g", was="1", now="2"),
        ImageDifference(what="order or padding", step="COPY a /", platform="linux/arm64"),
        ImageDifference(what="config", path="created", was="a", now="b", platform="unknown"),
        ImageDifference(what="layers", was="1", now="2"),
    )
    assert verdict_text(Verdict(first=ONE, second=TWO, differences=differences)) == (
        f"two images: {ONE}\n"
        f"            {TWO}\n"
        "\n"
        "RUN date?[2J > /d\n"
        "  /d: byte 7 is x31, then x32\n"
        "  /e: only in the first build\n"
        "  /f: only in the second build\n"
        "  /g: mtime is 1, then 2\n"
        "\n"
        "COPY a / (linux/arm64)\n"
        "  the same files in another order\n"
        "\n"
        "the image\n"
        "  created: a, then b\n"
        "  layers is 1, then 2\n"
    )


def test_a_format_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--format=xml", "."]) == 2
    assert capsys.readouterr().err == 'error: invalid format "xml": one of text, json\n'
