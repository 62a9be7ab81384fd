"""Records of builds as documents, and stages that lack a file by the name of what they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.builds.answers import answered
from pybuild.builds.builddocument import document_of
from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.contents import MissingSource
from pybuild.model.span import Span


@pytest.mark.parametrize(
    ("name", "kind"), [("made", "stage"), ("MADE", "stage"), ("0", "stage"), ("alpine", "image")]
)
def test_a_file_that_is_not_there_is_missed_in_a_stage_or_an_image(name: str, kind: str) -> None:
    text = f"FROM scratch AS made\nFROM scratch\nCOPY --from={name} /f /\n"
    error = MissingSource("ref", "/f").with_spans((Span("Dockerfile", 3, 3),))
    told = answered(error, parse_dockerfile(text.encode()), ".", ())
    assert told.message == f'"/f" is not in {kind} {name}'


def test_a_build_is_a_document_by_dockers_names() -> None:
    record = BuildRecord(
        id="i", ref="r", status=BuildStatus.COMPLETED, at=1.0, seconds=2.5, total=3, cached=1, completed=3
    )  # fmt: skip
    document = document_of(record)
    assert (document["Duration"], document["Status"], document["Ref"]) == (
        2_500_000_000,
        "completed",
        "i",
    )
    assert (document["StartedAt"][:19], document["CompletedAt"][:19]) == (
        "1970-01-01T00:00:01",
        "1970-01-01T00:00:03",
    )
    assert (document["NumTotalSteps"], document["NumCachedSteps"], document["Error"]) == (3, 1, {})
    failed = document_of(
        replace(record, status=BuildStatus.ERROR, error="m", step="s", seconds=None)
    )
    assert failed["Status"] == "failed" and failed["CompletedAt"] == ""
    assert failed["Error"] == {"Message": "m", "Name": "s", "Logs": []}
