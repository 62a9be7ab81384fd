"""Failures and warnings of a build as CI systems show them beside the lines of a Dockerfile."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, StepError
from pybuild.model.events import BuildWarning
from pybuild.model.printable import without_controls
from pybuild.model.span import Span

MOST_OF_GITHUB = 10
"""GitHub shows no more of a kind in one step of a job."""

_MOST_CHARS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class CiRemark:
    """A remark about lines of a file.

    Attributes:
        path: from the top of the repository; empty where it is about no file.
        level: ``error`` or ``warning``.
        title: the rule, or the step.
    """

    level: str
    message: str
    title: str = ""
    path: str = ""
    first_line: int = 0
    last_line: int = 0


def annotations_of(
    error: PybuildError | None,
    warnings: Sequence[BuildWarning],
    place: Callable[[str], str],
) -> list[CiRemark]:
    """Return the annotations of a build that ended so, the error first.

    Args:
        place: gives the path in the repository of a file that a span names.
    """
    made: list[CiRemark] = []
    if error is not None:
        lines = [error.message, *(f"hint: {hint}" for hint in error.hints)]
        title = error.step if isinstance(error, StepError) else ""
        if isinstance(error, StepError) and error.log_tail:
            lines += ["", *error.log_tail]
        made.append(_annotation("error", "\n".join(lines), title, error.spans, place))
    for one in warnings:
        text = "\n".join((one.message, *one.detail))
        made.append(_annotation("warning", text, one.rule, one.spans, place))
    return list(dict.fromkeys(made))


def _annotation(
    level: str, text: str, title: str, spans: Sequence[Span], place: Callable[[str], str]
) -> CiRemark:
    text = without_controls(text)
    if len(text) > _MOST_CHARS:
        text = text[: _MOST_CHARS // 2] + "\n…\n" + text[-_MOST_CHARS // 2 :]
    title = without_controls(title)
    if not spans:
        return CiRemark(level=level, message=text, title=title)
    return CiRemark(
        level=level,
        message=text,
        title=title,
        path=place(spans[0].file),
        first_line=spans[0].first_line,
        last_line=max(spans[0].first_line, spans[0].last_line),
    )


# --- GitHub ---------------------------------------------------------------------------------------


def github(annotations: Sequence[CiRemark]) -> str:
    """Return the commands to GitHub's runner, a line each."""
    lines: list[str] = []
    for level in ("error", "warning"):
        some = [one for one in annotations if one.level == level]
        lines += [_command(one) for one in some[:MOST_OF_GITHUB]]
    return "".join(f"{line}\n" for line in lines)


def _command(one: CiRemark) -> str:
    fields = {"file": one.path, "line": one.first_line, "endLine": one.last_line}
    given = {name: value for name, value in fields.items() if value}
    given["title"] = one.title or "pybuild"
    shown = ",".join(f"{name}={_property(str(value))}" for name, value in given.items())
    return f"::{one.level} {shown}::{_data(one.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# --- GitLab ---------------------------------------------------------------------------------------


def gitlab(annotations: Sequence[CiRemark]) -> str:
    """Return a report of code quality: what GitLab shows in merge requests. It takes remarks about files only."""
    issues = [
        {
            "description": one.message,
            "check_name": one.title or "build",
            "fingerprint": _fingerprint(one),
            "severity": "critical" if one.level == "error" else "minor",
            "location": {"path": one.path, "lines": {"begin": one.first_line}},
        }
        for one in annotations
        if one.path
    ]
    return json.dumps(issues, indent=2) + "\n"


def _fingerprint(one: CiRemark) -> str:
    """Return the same for what is the same but for its line and its log."""
    text = "\0".join((one.level, one.path, one.title, one.message.split("\n")[0]))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# --- XML ------------------------------------------------------------------------------------------

_NOT_OF_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """Return *text* for XML, without the characters that XML cannot have."""
    from xml.sax.saxutils import escape

    return escape(_NOT_OF_XML.sub("\ufffd", text), {'"': "&quot;"})
