"""The Dockerfile up to a step of a stage."""

from __future__ import annotations

import pytest

from pybuild.builds.stagetree import cut
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UsageError

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
