"""Records of builds as documents, and stages that lack a file by the name of what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.builds.answers import answered
from pybuild.builds.builddocument import document_of
from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.advice import UNSET_IN_RUN
from pybuild.model.contents import MissingSource
from pybuild.model.errors import StepError, UserError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span


@pytest.mark.parametrize(
    ("name", "kind"), [("made", "stage"), ("MADE", "stage"), ("0", "stage"), ("alpine", "image")]
)
def test_a_file_that_is_not_there_is_missed_in_a_stage_or_an_image(name: str, kind: str) -> None:
    text = f"FROM scratch AS made\nFROM scratch\nCOPY --from={name} /f /\n"
    error = MissingSource("ref", "/f").with_spans((Span("Dockerfile", 3, 3),))
    told = answered(error, parse_dockerfile(text.encode()), ".", ())
    assert told.message == f'"/f" is not in {kind} {name}'


def test_a_failed_step_has_what_was_foreseen_of_it() -> None:
    dockerfile = parse_dockerfile(b"FROM a\nRUN echo $X\nRUN echo $Y\n")
    failed = StepError("it failed", status=1, spans=(Span("Dockerfile", 3, 3),), hints=("look",))

    def foreseen(line: int, rule: str = UNSET_IN_RUN.name) -> BuildWarning:
        span = Span("Dockerfile", line, line)
        return BuildWarning(message=f"${line} has no value", rule=rule, spans=(span,))

    warnings = [foreseen(2), foreseen(3, "Other")]
    assert answered(failed, dockerfile, ".", warnings) is failed
    told = answered(failed, dockerfile, ".", [*warnings, foreseen(3)])
    assert (told.message, told.hints) == ("it failed", ("$3 has no value",))


def test_an_error_that_no_instruction_shows_stays_as_it_is() -> None:
    dockerfile = parse_dockerfile(b"FROM a\nCOPY f /f\n")
    other = UserError("other")
    assert answered(other, dockerfile, ".", ()) is other
    missing = MissingSource("ref", "/f").with_spans((Span("Dockerfile", 9, 9),))
    assert answered(missing, dockerfile, ".", ()) is missing
    elsewhere = MissingSource("ref", "/f").with_spans((Span("Dockerfile", 2, 2),))
    assert answered(elsewhere, dockerfile, ".", ()) is elsewhere  # no --from: nothing to name


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


def cause(
    instruction: str, path: str, context: Path, *, warning: str = "", above: str = ""
) -> tuple[str, list[str]]:
    """Return the error and the hints about a file that an instruction misses in the context."""
    text = f"{above}FROM scratch\n{instruction}\n"
    line = text.count("\n")
    at = (Span("Dockerfile", line, line),)
    elsewhere = (Span("Dockerfile", line - 1, line - 1),)
    error = MissingSource("context", path, in_context=True).with_spans(at)
    warnings = [
        BuildWarning(message="Usage of undefined variable '$W'", spans=elsewhere),
        BuildWarning(message="another", spans=at),
        BuildWarning(message=warning, spans=at),
    ]
    caused = answered(error, parse_dockerfile(text.encode()), str(context), warnings)
    return caused.message, list(caused.hints)


@pytest.mark.parametrize(
    ("instruction", "path", "message", "hint"),
    [
        ("COPY —chown=1 a /", "/—chown=1", '"—chown=1" begins with a dash of word processors: it is no flag', "write --chown=1"),
        ("COPY a # b /", "/#", "no comment may stand behind COPY: its words are taken for files", "put the comment on a line of its own"),
        ("COPY abc 2>/dev/null || /", "/2>/dev/null", 'no shell reads COPY: "2>/dev/null" is taken for a file', "a file that may be missing is written as a pattern: ab[c]"),
        ("COPY abc && /", "/&&", 'no shell reads COPY: "&&" is taken for a file', "a file that may be missing is written as a pattern: ab[c]"),
        ("COPY `date` /", "/`date`", 'no shell reads a COPY: "`date`" is taken as it stands', "write the path as it is in the context, or pass it with ARG and --build-arg"),
        ("COPY ~/.ssh /", "/~/.ssh", '"~/.ssh": ~ is no home directory in a Dockerfile', "a key is given with --secret id=key,src=~/.ssh and RUN --mount=type=secret,id=key"),
        ("COPY a\\b /", "/ab", '"a\\b" is read as ab: \\ is an escape', "write a/b"),
        ("COPY /own/f /", "/own/f", "", ""),
        ("RUN --mount=type=bind,source=~/x,target=/m true", "/~/x", '"~/x": ~ is no home directory in a Dockerfile', "a key is given with --secret id=key,src=~/x and RUN --mount=type=secret,id=key"),
    ],
)  # fmt: skip
def test_the_cause_of_a_missing_file_is_in_its_words(
    tmp_path: Path, instruction: str, path: str, message: str, hint: str
) -> None:
    plain = MissingSource("context", path, in_context=True).message
    assert cause(instruction, path, tmp_path) == (message or plain, [hint] if hint else [])


def test_a_path_of_this_machine_is_named_as_it_is_in_the_context_or_beside_it(
    tmp_path: Path,
) -> None:
    context, beside = tmp_path / "c", tmp_path / "beside"
    for folder in (context, beside):
        folder.mkdir()
        (folder / "f").write_text("")
    inside, outside, all_of_it = f"{context}/f", f"{beside}/f", str(beside)
    assert cause(f"COPY {inside} /", inside, context) == (
        f'"{inside}" is a path of this machine, not of the context',
        ["write f"],
    )
    assert cause(f"COPY {outside} /", outside, context) == (
        f'"{outside}" is outside of the context, {context}',
        [f"add --build-context outside={all_of_it} and write COPY --from=outside f …"],
    )
    assert cause(f"COPY {all_of_it} /", all_of_it, context) == (
        f'"{all_of_it}" is outside of the context, {context}',
        [f"add --build-context outside={all_of_it} and write COPY --from=outside . …"],
    )
    assert cause("COPY ../beside/f /", "/beside/f", context) == (
        f'"../beside/f" is outside of the context, {context}',
        [f"add --build-context outside={all_of_it} and write COPY --from=outside f …"],
    )


def test_a_variable_without_a_value_is_named(tmp_path: Path) -> None:
    def hints(warning: str, above: str = "") -> list[str]:
        return cause("COPY a$V /", "/a", tmp_path, warning=warning, above=above)[1]

    usage = "Usage of undefined variable '$V'"
    assert hints("") == []
    assert hints(usage) == ["$V has no value here: declare it with ARG or ENV before"]
    assert hints(f"{usage} (did you mean $VV?)") == ["$V has no value here, did you mean $VV?"]
    assert hints(usage, "ARG V=1\n") == ['$V has no value here: repeat "ARG V" behind FROM']
