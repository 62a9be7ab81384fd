"""``pybuild -H ADDR build --check`` and ``--call``: a server reads the file, we show what it says."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pybuild.builds.request import BuildRequest
from pybuild.client.ask import ask
from pybuild.client.builders import BuilderRecord
from pybuild.client.connect import connected
from pybuild.commandline.parser import Parsed
from pybuild.commands.check import Call, parse_call, request_of
from pybuild.commands.serverbuild import build, run
from pybuild.frontend import views
from pybuild.frontend.syntax.physical import Excerpts, excerpts
from pybuild.model.errors import EnvironmentFault, ExitCode, UserError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span
from pybuild.progress.render import report

_QUESTIONS = {
    "check": "frontend.lint",
    "outline": "frontend.outline",
    "targets": "frontend.targets",
}


def main(parsed: Parsed, builder: BuilderRecord) -> int:
    """Let *builder* answer the question that ``--call`` asks about a file."""
    call = parse_call(parsed)
    if call.method == "build":
        return build(parsed, builder)
    metadata, filenames = run(_ask(builder, request_of(parsed), _QUESTIONS[call.method]))
    text, document = metadata.get("result.txt", b""), metadata.get("result.json", b"")
    if call.method == "check":
        return _check(call, document, filenames)
    _write(document if call.json else text)
    return ExitCode.OK


async def _ask(
    builder: BuilderRecord, request: BuildRequest, question: str
) -> tuple[Mapping[str, bytes], Mapping[str, str]]:
    async with connected(builder) as channel:
        metadata, offered = await ask(channel, request, question)
        return metadata, offered.filenames


def _check(call: Call, document: bytes, filenames: Mapping[str, str]) -> int:
    """Show warnings as where the file is read in this process; servers' own texts differ."""
    try:
        found: dict[str, Any] = json.loads(document)
        sources = [_source(item, filenames) for item in found.get("sources") or ()]
        warnings = [_warning(item, sources) for item in found.get("warnings") or ()]
        error = _error(found.get("buildError"), sources)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as broken:
        raise EnvironmentFault(f"the server's answer to a check: {broken}") from broken
    lines = sources[0][1] if sources else ()
    if call.json:
        _write(document)
    else:
        sys.stdout.write(views.check_text(warnings, lines))
        if error is not None:
            sys.stdout.flush()
            report(error.showing(dict(sources)), sys.stderr)
    is_bad = bool(warnings) or error is not None
    return ExitCode.BUILD_FAILURE if is_bad and not call.ignore_status else ExitCode.OK


_Source = tuple[str, Excerpts]


def _source(item: Mapping[str, Any], filenames: Mapping[str, str]) -> _Source:
    name = str(item.get("filename", "Dockerfile"))
    data = base64.b64decode(item.get("data") or "")
    return filenames.get(name, name), excerpts(data)


def _warning(item: Mapping[str, Any], sources: list[_Source]) -> BuildWarning:
    return BuildWarning(
        message=str(item.get("detail", "")),
        rule=str(item.get("ruleName", "")),
        url=str(item.get("url", "")),
        spans=tuple(_spans(item.get("location"), sources)),
        detail=(str(item.get("description", "")),),
    )


def _error(item: Mapping[str, Any] | None, sources: list[_Source]) -> UserError | None:
    if not item:
        return None
    return UserError(str(item["message"]), spans=list(_spans(item.get("location"), sources)))


def _spans(location: Mapping[str, Any] | None, sources: list[_Source]) -> Iterable[Span]:
    if not location:
        return
    name = sources[int(location.get("sourceIndex", 0))][0]
    for one in location.get("ranges") or ():
        first = int(one["start"]["line"])
        yield Span(name, first, max(first, int((one.get("end") or one["start"])["line"])))


def _write(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    sys.stdout.write(text if not text or text.endswith("\n") else text + "\n")
