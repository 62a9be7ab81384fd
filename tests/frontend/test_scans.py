"""Stages and contexts that are to be scanned beside the result [EV-12, ATT-3]."""

from __future__ import annotations

import pytest

from pybuild.frontend.lowering.interface import Lowered, LowerOptions
from pybuild.frontend.lowering.lower import lower
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.ops import ExecOp, LocalSource, walk
from pybuild.model.platform import LINUX_AMD64

STAGES = """\
FROM scratch AS file
{stage}
COPY a /file
FROM scratch AS unused
{stage}
COPY a /x
FROM scratch
{target}
COPY --from=file /file /foo
"""


def scans(text: str, **args: str) -> Lowered:
    options = LowerOptions(build_args=args, target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    found = lower(parse_dockerfile(text.encode(), "Dockerfile"), options, {})
    assert isinstance(found, Lowered)
    return found


@pytest.mark.parametrize(
    ("head", "stage", "target", "names"),
    [
        ("", "", "", []),
        ("", "ARG BUILDKIT_SBOM_SCAN_STAGE=true", "ARG BUILDKIT_SBOM_SCAN_STAGE=true", ["file"]),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=1\n", "", "", ["file"]),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=other,file\n", "", "", ["file"]),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=other\n", "", "", []),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=1\n", "ARG BUILDKIT_SBOM_SCAN_STAGE=false", "", []),
        ("ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\n", "", "", ["context"]),
        ("", "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true", "", []),
    ],
)
def test_the_two_args_say_what_is_scanned(
    head: str, stage: str, target: str, names: list[str]
) -> None:
    found = scans(head + STAGES.format(stage=stage or "ENV A=b", target=target or "ENV A=b"))
    assert sorted(found.scans) == names
    if "context" in found.scans:
        assert isinstance(found.scans["context"].op, LocalSource)


def test_a_build_arg_counts_where_the_arg_is_declared() -> None:
    text = STAGES.format(stage="ENV A=b", target="ENV A=b")
    assert not scans(text, BUILDKIT_SBOM_SCAN_STAGE="true").scans
    declared = "ARG BUILDKIT_SBOM_SCAN_STAGE=true\n" + text
    assert not scans(declared, BUILDKIT_SBOM_SCAN_STAGE="false").scans


def test_the_args_never_reach_a_step() -> None:
    text = "FROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN x\n"
    steps = [v.op for v in walk(scans(text).result) if isinstance(v.op, ExecOp)]
    assert [item for step in steps for item in step.env if "SBOM" in item] == []
