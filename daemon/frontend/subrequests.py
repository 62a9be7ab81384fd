"""Questions about a Dockerfile instead of a build of it: outline, targets, lint [6]."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from pybuild.buildkit.wirerules import in_protocol_words
from pybuild.builds.verdicts import InThread
from pybuild.daemon.frontend.attrs import Attrs
from pybuild.daemon.frontend.definition import ReadDockerfile
from pybuild.daemon.frontend.results import Result
from pybuild.frontend.lowering.interface import LowerOptions, NeedImages
from pybuild.frontend.question import FileQuestion, Outcomes, Question
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

_QUESTIONS = {LINT: Question.CHECK, OUTLINE: Question.OUTLINE, TARGETS: Question.TARGETS}

LookUp = Callable[[NeedImages], Awaitable[Outcomes]]


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
    definition: ReadDockerfile,
    options: LowerOptions,
    outcomes: LookUp,
    in_thread: InThread,
) -> Result:
    """Return a result without a tree, whose metadata is the answer as JSON and as text.

    Args:
        in_thread: does what may take long.
    """
    if attrs.request == DESCRIBE:
        return _describe()
    question = _QUESTIONS[attrs.request]
    file = await in_thread(
        partial(
            FileQuestion, question, definition.data, definition.filename, options, in_protocol_words
        )
    )
    while isinstance(answer := await in_thread(file.run), NeedImages):
        file.add(answer, await outcomes(answer))
    if question is not Question.CHECK:
        return _result(answer.json, answer.text)
    status = b"0" if answer.is_clean else b"1"
    return _result(answer.json, answer.text, {"result.statuscode": status})


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
