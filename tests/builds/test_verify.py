"""Two builds of one request, and their differences as text."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pybuild.builds.build import build
from pybuild.builds.request import BuildRequest
from pybuild.builds.verify import Verdict, verdict_text, verify
from pybuild.cli import main
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.image.compare import ImageDifference
from pybuild.model.digest import Digest
from pybuild.model.events import Emit, Event, VertexAdded
from pybuild.model.reference import Reference

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


def test_a_base_that_only_the_store_has_is_lent_to_the_second_build(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    file = tmp_path / "c/f"
    file.write_text("1")
    settings = Settings(root=str(tmp_path / "store"))
    names: dict[str, list[str]] = {"first": [], "second": []}

    def emit(which: str) -> Emit:
        def hear(event: Event) -> None:
            if isinstance(event, VertexAdded):
                names[which].append(event.name)
                if which == "second":
                    file.write_text("2")  # once: it has been read twice when layers are compared

        return hear

    async def make() -> Verdict:
        plain = BuildRequest(context=str(tmp_path / "c"))
        base = BuildRequest(
            context=plain.context,
            dockerfile_text=b"FROM scratch\nCOPY f /base\n",
            tags=(Reference.parse("base:1"),),
        )
        above = BuildRequest(
            context=plain.context,
            dockerfile_text=b"FROM base:1\nCOPY f /f\n",
            tags=(Reference.parse("above:1"),),
        )
        async with Engine(settings) as engine:
            await build(engine, base, lambda event: None)
        return await verify(settings, above, emit)

    verdict = asyncio.run(make())
    assert not verdict.is_same
    [content] = [one for one in verdict.differences if one.what == "content"]
    assert (content.path, content.was, content.now, content.offset) == ("f", "'1'", "'2'", 0)
    assert [name for name in names["second"] if "COPY f /f" in name]
    # They have not left a name or a file.
    index = (tmp_path / "store/index.json").read_text()
    assert "base:1" in index and "above:1" not in index
    assert not [name for name in os.listdir(tmp_path / "store/tmp") if "verify" in name]
