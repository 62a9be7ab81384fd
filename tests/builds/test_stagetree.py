"""The Dockerfile up to a step of a stage, and the tree that it makes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.request import BuildRequest
from pybuild.builds.stagetree import cut, stage_tree
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UsageError, UserError

TEXT = b"""ARG V=1
FROM base:$V AS build
ENV A=1
RUN <<END
one
END
WORKDIR /w
COPY a \\
  b
CMD ["x"]
FROM scratch AS last
COPY --from=build /w /w
USER 7
FROM build
RUN two
"""


@pytest.mark.parametrize(
    ("target", "step", "last"),
    [
        ("build", 1, b"FROM base:$V AS build\n"),
        ("build", 2, b"END\n"),
        ("BUILD", 3, b"WORKDIR /w\n"),
        ("build", 4, b'CMD ["x"]\n'),  # with all that belongs to the whole stage
        ("0", 3, b"WORKDIR /w\n"),
        ("last", 1, b"USER 7\n"),  # scratch is no step
        ("", 1, b"RUN two\n"),  # nor is a stage above
    ],
)
def test_the_text_ends_behind_the_step(target: str, step: int, last: bytes) -> None:
    text = cut(TEXT, parse_dockerfile(TEXT, "Dockerfile"), target, step)
    assert TEXT.startswith(text)
    assert text.endswith(last)


@pytest.mark.parametrize(("target", "step"), [("build", 5), ("build", 0), ("last", 2)])
def test_a_step_that_there_is_not(target: str, step: int) -> None:
    with pytest.raises(UsageError, match=rf"--from-step {step}: the stage has \d steps"):
        cut(TEXT, parse_dockerfile(TEXT, "Dockerfile"), target, step)


MADE = b"""FROM scratch AS one
COPY f /a
ENV A=1
COPY f /b
ENV B=2
FROM scratch AS two
COPY f /c
"""


def tree(site: Path, text: bytes, target: str, step: int) -> tuple[int, dict[str, Any]]:
    """Return the number of the tree's layers, and its config."""

    async def work() -> tuple[int, dict[str, Any]]:
        request = BuildRequest(context=str(site / "c"), dockerfile_text=text, target=target)
        async with (
            Engine(Settings(root=str(site / "store"))) as engine,
            stage_tree(engine, request, step, lambda event: None) as made,
        ):
            return len(made.snapshot.deltas), dict(made.config["config"])

    return asyncio.run(work())


def test_the_tree_of_a_stage_up_to_a_step(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/f").write_text("1")
    layers, config = tree(tmp_path, MADE, "one", 1)
    assert layers == 1 and "A=1" not in config["Env"]
    layers, config = tree(tmp_path, MADE, "one", 2)
    assert layers == 2 and {"A=1", "B=2"} <= set(config["Env"])
    assert tree(tmp_path, MADE, "one", 0) == (layers, config)
    assert tree(tmp_path, MADE, "", 0)[0] == 1


def test_a_stage_that_another_frontend_reads_has_no_tree(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="a frontend of its own reads cannot be run") as caught:
        tree(tmp_path, b"# syntax=other/frontend:1\n" + MADE, "", 0)
    assert caught.value.hints == ("build an image with --target, and run that",)
