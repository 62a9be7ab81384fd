"""A server's answers about a Dockerfile, as where the file is read in this process."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pybuild.frontend import views
from pybuild.frontend.lint.catalogue import RULES
from pybuild.frontend.question import FileAnswer, Question
from pybuild.frontend.syntax.physical import excerpts
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span


def answer_of(
    question: Question, metadata: Mapping[str, bytes], filenames: Mapping[str, str]
) -> FileAnswer:
    """Read the answer to *question*.

    Args:
        filenames: people's names of files, by the server's names.

    Raises:
        EnvironmentFault: it is none.
    """
    text, document = metadata.get("result.txt", b""), metadata.get("result.json", b"")
    if question is not Question.CHECK:
        return FileAnswer(text=_lines(text), json=_lines(document))
    try:
        return _check(json.loads(document), filenames)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as broken:
        raise EnvironmentFault(f"the server's answer to a check: {broken}") from broken


def _check(checked: Mapping[str, Any], filenames: Mapping[str, str]) -> FileAnswer:
    sources = [_source(item, filenames) for item in checked.get("sources") or ()]
    warnings = [_warning(item, sources) for item in checked.get("warnings") or ()]
    error = _error(checked.get("buildError"), sources)
    filename, data = sources[0] if sources else ("Dockerfile", b"")
    if error is not None:
        error = error.showing({name: excerpts(content) for name, content in sources})
    return FileAnswer(
        text=views.check_text(warnings, excerpts(data)),
        json=views.check_json(warnings, error, filename, data),
        error=error,
        is_clean=not warnings and error is None,
    )


_Source = tuple[str, bytes]


def _source(item: Mapping[str, Any], filenames: Mapping[str, str]) -> _Source:
    name = str(item.get("filename", "Dockerfile"))
    return filenames.get(name, name), base64.b64decode(item.get("data") or "")


def _warning(item: Mapping[str, Any], sources: list[_Source]) -> BuildWarning:
    """Read a warning; a rule that we have is described, and its page named, in our words."""
    name = str(item.get("ruleName", ""))
    rule = RULES.get(name)
    return BuildWarning(
        message=str(item.get("detail", "")),
        rule=name,
        url=rule.url if rule else str(item.get("url", "")),
        spans=tuple(_spans(item.get("location"), sources)),
        detail=(rule.description if rule else str(item.get("description", "")),),
    )


def _error(item: Mapping[str, Any] | None, sources: list[_Source]) -> UserError | None:
    if not item:
        return None
    return UserError(
        str(item["message"]),
        spans=list(_spans(item.get("location"), sources)),
        hints=[str(hint) for hint in item.get("hints") or ()],
    )


def _spans(location: Mapping[str, Any] | None, sources: list[_Source]) -> Iterable[Span]:
    if not location:
        return
    name = sources[int(location.get("sourceIndex", 0))][0]
    for one in location.get("ranges") or ():
        first = int(one["start"]["line"])
        yield Span(name, first, max(first, int((one.get("end") or one["start"])["line"])))


def _lines(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return text if not text or text.endswith("\n") else text + "\n"
