"""Questions about a Dockerfile instead of a build of it: outline, targets, lint [6]."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from pybuild.daemon.frontend.attrs import Attrs
from pybuild.daemon.frontend.definition import Definition
from pybuild.daemon.frontend.results import Result
from pybuild.daemon.frontend.wirerules import as_told
from pybuild.frontend.check import Check
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.outline import list_stages, outline
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.views import (
    check_json,
    check_text,
    outline_json,
    outline_text,
    targets_json,
    targets_text,
)
from pybuild.model.errors import UserError

DESCRIBE, OUTLINE = "frontend.subrequests.describe", "frontend.outline"
TARGETS, LINT = "frontend.targets", "frontend.lint"
_VERSION = "1.0.0"
_DESCRIPTIONS = {
    OUTLINE: ("outline", "List all parameters current build target supports"),
    TARGETS: ("targets", "List all targets current build supports"),
    DESCRIBE: ("describe", "List available subrequest types"),
    LINT: ("lint", "Lint source code for common issues"),
}

Known = Mapping[ImageRequest, ResolvedImage]
Resolve = Callable[[NeedImages], Awaitable[Known]]
InThread = Callable[[Callable[[], "Result | NeedImages"]], Awaitable["Result | NeedImages"]]


class UnknownRequest(UserError):
    """There is no such sub-request; *name* is it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unsupported request {name}")
        self.name = name


def check_request(name: str) -> None:
    """Raises `UnknownRequest` for a sub-request that there is not."""
    if name and name not in _DESCRIPTIONS:
        raise UnknownRequest(name)


async def answer_subrequest(
    attrs: Attrs,
    definition: Definition,
    options: LowerOptions,
    resolve: Resolve,
    in_thread: InThread,
) -> Result:
    """Return a result without a tree, whose metadata is the answer as JSON and as text.

    Args:
        in_thread: does what may take long.
    """
    if attrs.request == DESCRIBE:
        return _describe()
    answering = partial(_ANSWERS.get(attrs.request, _lint), definition, options)
    known: dict[ImageRequest, ResolvedImage] = {}
    while isinstance(found := await in_thread(partial(answering, known)), NeedImages):
        known |= await resolve(found)
    return found


def _targets(definition: Definition, options: LowerOptions, known: Known) -> Result:
    del options, known
    stages = list_stages(parse_dockerfile(definition.data, definition.filename))
    return _result(targets_json(stages, definition.data), targets_text(stages))


def _outline(definition: Definition, options: LowerOptions, known: Known) -> Result | NeedImages:
    dockerfile = parse_dockerfile(definition.data, definition.filename)
    found = outline(dockerfile, options, known)
    if isinstance(found, NeedImages):
        return found
    return _result(outline_json(found, definition.data), outline_text(found))


def _lint(definition: Definition, options: LowerOptions, known: Known) -> Result | NeedImages:
    checked = Check(definition.data, definition.filename, options).run(known)
    if isinstance(checked, NeedImages):
        return checked
    warnings = [as_told(finding.warning()) for finding in checked.findings]
    document = check_json(warnings, checked.error, definition.filename, definition.data)
    status = 1 if warnings or checked.error is not None else 0
    text = check_text(warnings, definition.lines)
    return _result(document, text, {"result.statuscode": str(status).encode()})


_ANSWERS = {TARGETS: _targets, OUTLINE: _outline}


def _describe() -> Result:
    items = [
        {
            "name": name,
            "version": _VERSION,
            "type": "rpc",
            "description": description,
            "opts": None,
            "metadata": [{"name": "result.json"}, {"name": "result.txt"}],
        }
        for name, (_, description) in sorted(_DESCRIPTIONS.items())
    ]
    text = "".join(
        f"{name:<32}{_VERSION:<10}{description}\n"
        for name, (_, description) in sorted(_DESCRIPTIONS.items())
    )
    return _result(json.dumps(items), f"{'NAME':<32}{'VERSION':<10}DESCRIPTION\n{text}")


def _result(document: str, text: str, more: Mapping[str, bytes] | None = None) -> Result:
    metadata = {
        "result.json": document.encode(),
        "result.txt": text.encode(),
        "version": _VERSION.encode(),
        **(more or {}),
    }
    return Result(metadata=metadata)
