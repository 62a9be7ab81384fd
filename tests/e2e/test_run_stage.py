"""``run --stage`` and ``--from-step``: what a build has made so far, run without an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = """
FROM base AS build
ARG WORD=none
ENV MADE=yes
RUN echo $WORD > /one
RUN echo two > /two
CMD ["cat", "/one", "/two"]
FROM base
RUN exit 1
"""


def test_a_stage_runs_as_it_is_without_an_image(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    assert base
    context = write(tmp_path / "context", Dockerfile=DOCKERFILE)
    before = pybuild("images", "-q").out

    def said(*options: str, words: tuple[str, ...] = (), code: int = 0) -> str:
        done = pybuild("run", "--rm", *options, context, *words, code=code)
        return done.err if code else done.out

    assert said("--stage", "build", "--build-arg", "WORD=one") == "one\ntwo\n"
    look = ("sh", "-c", "ls /one /two 2>/dev/null; echo $MADE")
    assert said("--stage", "build", words=look) == "/one\n/two\nyes\n"
    assert said("--stage", "build", "--from-step", "2", words=look) == "/one\nyes\n"
    assert said("--from-step", "1", words=look) == "\n"
    assert "the stage has 3 steps" in said("--stage", "build", "--from-step", "9", code=125)
    assert "could not be found" in said("--stage", "biuld", code=125)
    assert "--file needs --stage" in said("-f", "Dockerfile", code=125)
    assert pybuild("images", "-q").out == before
    assert pybuild("ps", "-aq").out == ""
    # One that stays lies on the stage's layers, which nothing takes from it.
    pybuild("create", "--name", "kept", "--stage", "build", context, "cat", "/two")
    pybuild("prune", "-af")
    assert pybuild("start", "-a", "kept").out == "two\n"
    pybuild("rm", "kept")
