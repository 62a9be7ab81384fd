"""Errors of a build, answered by what its Dockerfile says: the cause, and under it the way out.

Imported when a build has failed, never before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from pybuild.frontend.lowering.paths import clean
from pybuild.frontend.syntax import ast
from pybuild.model.advice import UNSET_IN_RUN
from pybuild.model.contents import MissingSource
from pybuild.model.errors import PybuildError, StepError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span

_SHELL = re.compile(r"(?:\|\|?|&&|;|\d?>.*)\Z")
_COMMAND = re.compile(r"\$\(|`")
_UNDEFINED = re.compile(r"Usage of undefined variable '\$(\w+)'(?: \(did you mean (\$\w+)\?\))?")
_DASHES = re.compile("[\u2010-\u2015\u2212]+")


def answered(
    error: PybuildError,
    dockerfile: ast.Dockerfile,
    context: str,
    warnings: Sequence[BuildWarning],
) -> PybuildError:
    """Return *error* with the cause that the instruction shows.

    Args:
        context: the directory as the request names it.
        warnings: the checks' findings and advice, which know of variables without a value.
    """
    if isinstance(error, StepError):
        return _of_step(error, warnings)
    if not isinstance(error, MissingSource):
        return error
    at = _instruction(dockerfile, error.spans)
    if at is None:
        return error
    if not error.in_context:
        return _of_stage(error, at, dockerfile)
    words = _words(at)
    for answer in (_of_words(words, at.keyword), _of_word(error, words, context)):
        if answer is not None:
            message, hint = answer
            return error.copy_with(message=message, hints=(hint,))
    undefined = _undefined(error, dockerfile, warnings)
    return error.copy_with(hints=(undefined,)) if undefined else error


def _of_step(error: StepError, warnings: Sequence[BuildWarning]) -> PybuildError:
    """Return *error* with what was foreseen of its step."""
    lines = {span.first_line for span in error.spans}
    for warning in warnings:
        if warning.rule == UNSET_IN_RUN.name and warning.spans[0].first_line in lines:
            return error.copy_with(hints=(warning.message, *error.hints)[:1])
    return error


def _instruction(dockerfile: ast.Dockerfile, spans: Sequence[Span]) -> ast.Instruction | None:
    for stage in dockerfile.stages:
        for at in stage.body:
            if any(span.first_line == at.span.first_line for span in spans):
                return at
    return None


def _words(at: ast.Instruction) -> list[str]:
    """Return the sources as they are written."""
    if isinstance(at, ast.Transfer):
        return [source for source in at.sources if isinstance(source, str)]
    options = ",".join(at.flag_list("mount")).split(",")
    return [value for name, _, value in (o.partition("=") for o in options) if name in _SOURCES]


_SOURCES = frozenset(("source", "src", "from"))


def _of_stage(
    error: MissingSource, at: ast.Instruction, dockerfile: ast.Dockerfile
) -> PybuildError:
    name = at.flag("from") if isinstance(at, ast.Transfer) else None
    if not name:
        return error
    names = {stage.start.name for stage in dockerfile.stages if stage.start.name}
    kind = "stage" if name.lower() in names or name.isdigit() else "image"
    return error.saying(f'"{error.path}" is not in {kind} {name}')


def _of_words(words: Sequence[str], keyword: str) -> tuple[str, str] | None:
    """Return the cause where a word is no path at all."""
    for word in words:
        if _DASHES.match(word):
            flag = _DASHES.sub("--", word, count=1)
            return f'"{word}" begins with a dash of word processors: it is no flag', f"write {flag}"
        if word.startswith("#"):
            return (
                f"no comment may stand behind {keyword}: its words are taken for files",
                "put the comment on a line of its own",
            )
        if _SHELL.match(word):
            optional = f"{words[0][:-1]}[{words[0][-1]}]"
            return (
                f'no shell reads {keyword}: "{word}" is taken for a file',
                f"a file that may be missing is written as a pattern: {optional}",
            )
    return None


def _of_word(error: MissingSource, words: Iterable[str], context: str) -> tuple[str, str] | None:
    """Return the cause where a path is written for another place than a context."""
    for word in words:
        if _COMMAND.search(word):
            return (
                f'no shell reads a COPY: "{word}" is taken as it stands',
                "write the path as it is in the context, or pass it with ARG and --build-arg",
            )
        if word.startswith("~"):
            return (
                f'"{word}": ~ is no home directory in a Dockerfile',
                f"a key is given with --secret id=key,src={word} and RUN --mount=type=secret,id=key",
            )
        if "\\" in word and clean(word.replace("\\", "")) == error.path:
            slashes = word.replace("\\", "/")
            return f'"{word}" is read as {error.path[1:]}: \\ is an escape', f"write {slashes}"
        if clean(word) != error.path:
            continue
        if os.path.normpath(word).startswith("../"):
            return _outside(word, os.path.join(context, word), context)
        if word.startswith("/") and os.path.lexists(word):
            inside = os.path.relpath(os.path.realpath(word), os.path.realpath(context))
            if not inside.startswith(".."):
                return f'"{word}" is a path of this machine, not of the context', f"write {inside}"
            return _outside(word, word, context)
    return None


def _outside(word: str, path: str, context: str) -> tuple[str, str]:
    name = os.path.basename(os.path.normpath(path))
    where = os.path.dirname(path) if os.path.isfile(path) else path
    shown = os.path.normpath(where)
    what = name if os.path.isfile(path) else "."
    return (
        f'"{word}" is outside of the context, {os.path.abspath(context)}',
        f"add --build-context outside={shown} and write COPY --from=outside {what} …",
    )


def _undefined(
    error: MissingSource, dockerfile: ast.Dockerfile, warnings: Sequence[BuildWarning]
) -> str:
    """Return a hint about a variable of the instruction that has no value."""
    lines = {span.first_line for span in error.spans}
    before = {item.name for arg in dockerfile.global_args for item in arg.items}
    for warning in warnings:
        if not any(span.first_line in lines for span in warning.spans):
            continue
        if undefined := _UNDEFINED.match(warning.message):
            name, near = undefined.groups()
            if name in before:
                return f'${name} has no value here: repeat "ARG {name}" behind FROM'
            means = f", did you mean {near}?" if near else ": declare it with ARG or ENV before"
            return f"${name} has no value here{means}"
    return ""
