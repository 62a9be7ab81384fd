"""Runs the checks that need nothing but the file and its global scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.stages import (
    Expanded,
    check_defaults,
    check_from_arguments,
    check_platform,
    check_stage_name_casing,
    check_stage_names,
)
from pybuild.frontend.lint.writing import (
    check_continuations,
    check_description,
    check_from_as,
    check_instruction_casing,
    check_maintainer,
)
from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.environment import add_global_args, automatic_args
from pybuild.frontend.words.expand import expand
from pybuild.model.errors import UserError


def check_text(
    instructions: tuple[ast.Instruction, ...],
    warnings: tuple[ast.ParseWarning, ...],
    report: Report,
) -> None:
    """Look at one instruction after the other; works for what stands above a parse error too."""
    check_continuations(warnings, instructions, report)
    for item in instructions:
        match item:
            case ast.From():
                check_stage_name_casing(item, report)
                check_from_as(item, report)
                check_description(item, report)
            case ast.Arg():
                check_description(item, report)
            case ast.Maintainer():
                check_maintainer(item, report)
            case _:
                pass


def check_file(
    dockerfile: ast.Dockerfile, options: LowerOptions, scope: Mapping[str, str], report: Report
) -> None:
    """Run them all.

    Args:
        scope: the variables of FROM lines.
    """
    escape = dockerfile.directives.escape
    check_text(tuple(_instructions(dockerfile)), dockerfile.warnings, report)
    check_stage_names(dockerfile, report)
    check_instruction_casing(dockerfile, report)
    defaults = _default_scope(dockerfile, options)
    if defaults is not None:
        check_defaults(dockerfile.stages, defaults, escape, report)
    declared = {*scope, *(item.name for arg in dockerfile.global_args for item in arg.items)}
    for stage in dockerfile.stages:
        start = stage.start
        try:
            base = _expanded(start.base, scope, escape)
            check_from_arguments(start, base.unset, declared, report)
            if start.platform:
                flag = _expanded(start.platform, scope, escape)
                check_from_arguments(start, flag.unset, declared, report)
                check_platform(start, flag, scope.get("TARGETPLATFORM", ""), report)
        except UserError:
            return  # the build fails for the same reason and says so


def _instructions(dockerfile: ast.Dockerfile) -> Iterable[ast.Instruction]:
    yield from dockerfile.global_args
    for stage in dockerfile.stages:
        yield stage.start
        yield from stage.body


def _default_scope(dockerfile: ast.Dockerfile, options: LowerOptions) -> Mapping[str, str] | None:
    """Return the global scope as it would be if no ARG had a value from outside."""
    args = options.build_args
    stage = options.target or dockerfile.stages[-1].start.name
    escape = dockerfile.directives.escape
    try:
        return add_global_args(
            automatic_args(options.target_platform, options.build_platform, stage, args),
            dockerfile.global_args,
            {},
            lambda word, env: expand(word, env, escape=escape),
        )
    except UserError:
        return None


def _expanded(word: str, scope: Mapping[str, str], escape: str) -> Expanded:
    watched = Watched(scope)
    unset: set[str] = set()
    value = expand(word, watched, escape=escape, on_unset=unset.add)
    return Expanded(value, watched.names, unset)


class Watched(Mapping[str, str]):
    """Variables that remember the names of those that had a value when they were read."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        value = self._variables[name]
        self.names.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)
