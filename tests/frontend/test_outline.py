"""Targets that a file offers, and the outline of one of them [UI-5, UI-6]."""

from __future__ import annotations

from typing import Any

from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.outline import Outline, list_stages, outline
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.platform import LINUX_AMD64


def outline_of(text: str, **options: Any) -> Outline:
    """Ask for the outline; nothing is known of any image."""
    dockerfile = parse_dockerfile(text.encode())
    given = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64, **options)
    images: dict[ImageRequest, ResolvedImage] = {}
    while True:
        answer = outline(dockerfile, given, images)
        if isinstance(answer, Outline):
            return answer
        assert isinstance(answer, NeedImages)
        images |= {request: ResolvedImage.unknown(request) for request in answer.requests}


def test_targets_are_listed_as_written() -> None:
    text = (
        "# build makes the program\n# build is said once\nFROM --platform=$BUILDPLATFORM go:1 AS build\n"
        "# another comment\nFROM $BASE as Second\n"
        "FROM scratch\n"
        "# bin  has the program\nFROM build AS bin\n"
    )
    stages = list_stages(parse_dockerfile(text.encode()))
    assert [(s.name, s.base, s.platform, s.description, s.default) for s in stages] == [
        ("build", "go:1", "$BUILDPLATFORM", "makes the program", False),
        ("second", "$BASE", "", "", False),
        ("", "scratch", "", "", False),
        ("bin", "build", "", " has the program", True),
    ]
    assert [stage.span.first_line for stage in stages] == [3, 5, 6, 8]


ARGS = """\
ARG part=ox
ARG other=x
ARG unused=${other}
# tail is the end of a name
ARG tail="usyb${part}"
FROM b${tail} AS first
# said about nothing
ARG plain=1
# given is a number
ARG given=2
FROM alpine${unused} AS second
ARG elsewhere
FROM scratch AS third
ARG inherited=a
ARG nothing
ARG part
ARG TARGETARCH
# target is the one
FROM third AS target
COPY --from=first /x /
FROM second
"""


def test_arguments_of_a_target() -> None:
    found = outline_of(ARGS, target="target", build_args={"given": "3"})
    assert (found.name, found.description) == ("target", "is the one")
    assert [(a.name, a.value, a.description, a.span.first_line) for a in found.args] == [
        ("part", "ox", "", 1),
        ("tail", "usybox", "is the end of a name", 5),
        ("plain", "1", "", 8),
        ("given", "3", "is a number", 10),
        ("inherited", "a", "", 14),
        ("nothing", "", "", 15),
    ]
    last = outline_of(ARGS)
    assert (last.name, [arg.name for arg in last.args]) == ("", ["other", "unused", "elsewhere"])


def test_arguments_made_of_others_several_times() -> None:
    text = (
        "ARG a=1\nARG b=b\nARG c=c\nARG a=${a}${b}\nARG d=${a}4\nARG a=${a}4${d}\n"
        "FROM scratch\nARG a\nARG in=1\nARG of=${in}4\nARG in=${in}4${of}\n"
    )
    assert [(arg.name, arg.value) for arg in outline_of(text).args] == [
        ("b", "b"),
        ("d", "1b4"),
        ("a", "1b41b4"),
        ("of", "14"),
        ("in", "1414"),
    ]


def test_secrets_agents_and_caches_of_a_target() -> None:
    text = (
        "FROM busybox AS first\n"
        "RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true\n"
        "FROM alpine AS second\n"
        "RUN --mount=type=secret,id=unused --mount=type=ssh,id=two true\n"
        "FROM scratch AS third\nARG BAR\n"
        "RUN --mount=type=secret,id=n${BAR} --mount=type=cache,target=/root/.cache true\n"
        "FROM third AS target\nCOPY --from=first /x /\n"
        "RUN --mount=type=ssh,id=three,required --mount=type=secret,id=n7 true\n"
        "FROM second\n"
    )
    found = outline_of(text, target="target", build_args={"BAR": "7"})
    assert [(m.name, m.required, m.span.first_line) for m in found.secrets] == [
        ("passwd", True, 2),
        ("n7", False, 7),
    ]
    assert [(m.name, m.required, m.span.first_line) for m in found.ssh] == [
        ("default", False, 2),
        ("three", True, 10),
    ]
    assert [(m.name, m.span.first_line) for m in found.caches] == [("/root/.cache", 7)]
