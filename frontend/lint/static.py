"""Checks that need nothing but the file and the global scope."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.frontend import ast
from pybuild.frontend.environment import add_global_args, automatic_args
from pybuild.frontend.expand import expand
from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rules import Rule
from pybuild.frontend.stagestate import BuildScope
from pybuild.frontend.suggest import did_you_mean
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

_RESERVED = ("scratch", "context")


def check_file(dockerfile: ast.Dockerfile, scope: BuildScope) -> None:
    """Run them all."""
    for warning in dockerfile.warnings:
        scope.report.add(Rule(warning.rule), spans=(warning.span,))
    _check_names(dockerfile, scope.report)
    _check_casing(dockerfile, scope.report)
    defaults = _default_scope(dockerfile, scope)
    declared = set(scope.globals) | {
        item.name for arg in dockerfile.global_args for item in arg.items
    }
    for stage in dockerfile.stages:
        _check_variables(stage.start, declared, scope)
        _check_platform(stage.start, scope)
        if defaults is not None:
            _check_default(stage.start, defaults, scope)


def _check_names(dockerfile: ast.Dockerfile, report: Report) -> None:
    seen: set[str] = set()
    for stage in dockerfile.stages:
        start = stage.start
        if start.name_as_written != start.name_as_written.lower():
            _add(report, Rule.STAGE_NAME_CASING, start, start.name_as_written)
        keyword, other = start.keyword, start.as_keyword
        if other and _casing(keyword) and _casing(keyword) != _casing(other):
            _add(report, Rule.FROM_AS_CASING, start, other, keyword)
        if start.name in _RESERVED:
            _add(report, Rule.RESERVED_STAGE_NAME, start, start.name)
        if start.name and start.name in seen:
            _add(report, Rule.DUPLICATE_STAGE_NAME, start, start.name)
        seen.add(start.name)


def _check_casing(dockerfile: ast.Dockerfile, report: Report) -> None:
    instructions = [
        instruction for stage in dockerfile.stages for instruction in (stage.start, *stage.body)
    ]
    casings = [_casing(instruction.keyword) for instruction in instructions]
    wanted = "lowercase" if casings.count("lower") > casings.count("upper") else "uppercase"
    for instruction, casing in zip(instructions, casings, strict=True):
        if f"{casing}case" != wanted:
            values = (instruction.keyword, wanted)
            _add(report, Rule.CONSISTENT_INSTRUCTION_CASING, instruction, *values)


def _check_variables(start: ast.From, declared: set[str], scope: BuildScope) -> None:
    for text in (start.base, start.platform):
        for name in sorted(_unset(text, scope)):
            if name not in declared:
                guess = did_you_mean(name, declared)
                _add(scope.report, Rule.UNDEFINED_ARG_IN_FROM, start, name, guess)


def _check_platform(start: ast.From, scope: BuildScope) -> None:
    text = start.platform
    if text in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        _add(scope.report, Rule.REDUNDANT_TARGET_PLATFORM, start, text)
    if text and "$" not in text:
        try:
            platform = Platform.parse(text, scope.options.build_platform)
        except ValueError:
            return
        if platform.os not in start.name and platform.arch not in start.name:
            _add(scope.report, Rule.CONSTANT_PLATFORM, start, text)


def _check_default(start: ast.From, defaults: Mapping[str, str], scope: BuildScope) -> None:
    try:
        Reference.parse(expand(start.base, defaults, escape=scope.escape))
    except UserError:
        return
    except ValueError:
        _add(scope.report, Rule.INVALID_DEFAULT_ARG, start, start.base)


def _default_scope(dockerfile: ast.Dockerfile, scope: BuildScope) -> Mapping[str, str] | None:
    """Return the global scope as it would be without build args."""
    options = scope.options
    try:
        return add_global_args(
            automatic_args(options.target_platform, options.build_platform, "", {}),
            dockerfile.global_args,
            {},
            lambda word, env: expand(word, env, escape=scope.escape),
        )
    except UserError:
        return None


def _unset(text: str, scope: BuildScope) -> set[str]:
    names: set[str] = set()
    expand(text, scope.globals, escape=scope.escape, on_unset=names.add)
    return names


def _casing(word: str) -> str:
    if word == word.lower():
        return "lower"
    return "upper" if word == word.upper() else ""


def _add(report: Report, rule: Rule, at: ast.Instruction, *values: str) -> None:
    report.add(rule, *values, spans=(at.span,), comments=at.comments)
