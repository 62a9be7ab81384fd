"""SOURCE_DATE_EPOCH: a number, or the name of what has the time [REP-1].

The word ``context``, and the names of named contexts and stages, stand for when that was last
changed. Who wants to lower a file asks here which source that is (`epoch_source`), finds out, and
says so in `LowerOptions.epochs`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.frontend.giturl import is_http, parse_git_url
from pybuild.frontend.lowering.contexts import NamedContexts, RemoteContext
from pybuild.frontend.lowering.copy import remote_source
from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.environment import (
    EPOCH,
    Environment,
    add_global_args,
    automatic_args,
    parse_epoch,
)
from pybuild.frontend.words.expand import expand
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import (
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    OciLayoutSource,
    Vertex,
    walk,
)

if TYPE_CHECKING:
    from pybuild.model.policy import Policies

CONTEXT = "context"
_SOURCES = (GitSource, HttpSource, ImageSource, LocalSource, OciLayoutSource)


@dataclass(frozen=True, slots=True)
class EpochSource:
    """The source whose time is needed: *word* is its name in SOURCE_DATE_EPOCH, *title* is shown."""

    word: str
    op: GitSource | HttpSource
    title: str


def global_scope(dockerfile: ast.Dockerfile, options: LowerOptions) -> Environment:
    """Return the variables of FROM lines [EV-1].

    Raises:
        UserError: a default that cannot be expanded.
    """
    escape = dockerfile.directives.escape
    args = options.build_args
    stage = options.target or dockerfile.stages[-1].start.name
    return add_global_args(
        automatic_args(options.target_platform, options.build_platform, stage, args),
        dockerfile.global_args,
        args,
        lambda word, env: expand(word, env, escape=escape),
    )


def epoch_source(dockerfile: ast.Dockerfile, options: LowerOptions) -> EpochSource | None:
    """Return the source whose time must be known before the file can be lowered; mostly None.

    Raises:
        UserError: SOURCE_DATE_EPOCH names what is not there, or has no time of its own.
    """
    given = options.build_args.get(EPOCH)
    if given is None and not any(
        item.name == EPOCH for arg in dockerfile.global_args for item in arg.items
    ):
        return None
    if not dockerfile.stages:
        return None
    scope = global_scope(dockerfile, options)
    word = given if given is not None else scope.get(EPOCH, "")
    if not word or parse_epoch(word) is not None:
        return None
    return _find(word, dockerfile, options, scope)


def settle_epoch(
    dockerfile: ast.Dockerfile, options: LowerOptions, scope: Environment
) -> tuple[LowerOptions, Environment, int | None]:
    """Return options and variables in which a number stands for the word, and that number.

    Raises:
        UserError: as `epoch_source`.
    """
    given = options.build_args.get(EPOCH)
    text = given if given is not None else scope.get(EPOCH)
    if text is None:
        return options, scope, None
    epoch = parse_epoch(text)
    if text and epoch is None:
        if text not in options.epochs:
            _find(text, dockerfile, options, scope)
        epoch = options.epochs.get(text)
    number = "" if epoch is None else str(epoch)
    if number != text:
        if given is not None:
            options = replace(options, build_args={**options.build_args, EPOCH: number})
        if EPOCH in scope:
            scope = scope.copy()
            scope.set(EPOCH, number)
    return options, scope, epoch


def _find(
    word: str, dockerfile: ast.Dockerfile, options: LowerOptions, scope: Environment
) -> EpochSource | None:
    if word == CONTEXT:
        return _source(word, _only_source(options.context), "main build context metadata")
    contexts = NamedContexts(options.named_contexts, options.context_trees)
    try:
        named = contexts.find(word, options.target_platform)
    except ValueError:
        named = None
    if named is not None:
        if options.policies:
            from pybuild.frontend.lowering.policies import ruled_context

            named = ruled_context(options.policies, named, options.target_platform)
        op = named.source if isinstance(named, RemoteContext) else None
        return _source(word, op, f"{EPOCH} named context {word}")
    for stage in dockerfile.stages:
        if stage.start.name and stage.start.name == word.lower():
            try:
                op = _stage_source(stage, dockerfile, options, scope)
            except PybuildError as error:
                raise error.with_spans((stage.start.span,)) from None
            return _source(word, op, f"{EPOCH} source stage {stage.start.name}")
    raise UserError(
        f"invalid {EPOCH}: {word}",
        hints=("give seconds since 1970, context, or the name of a context or stage",),
    )


def _source(word: str, op: GitSource | HttpSource | None, what: str) -> EpochSource | None:
    return None if op is None else EpochSource(word, op, f"[internal] resolve {what}")


def _only_source(context: Vertex | None) -> GitSource | HttpSource | None:
    """Return the source of *context*, where that is one remote thing."""
    if context is None:
        return None
    sources = [vertex.op for vertex in walk(context) if isinstance(vertex.op, _SOURCES)]
    if len(sources) == 1 and isinstance(sources[0], (GitSource, HttpSource)):
        return sources[0]
    return None


def _stage_source(
    stage: ast.Stage, dockerfile: ast.Dockerfile, options: LowerOptions, scope: Environment
) -> GitSource | HttpSource:
    """Return the source that a stage adds, which must add one remote thing and do nothing else."""
    escape = dockerfile.directives.escape
    if expand(stage.start.base, scope, escape=escape) != "scratch":
        raise UserError(f"{EPOCH} stage must use FROM scratch")
    env = Environment({name: value for name, value in scope.items() if name != EPOCH})
    source: GitSource | HttpSource | None = None
    for instruction in stage.body:
        match instruction:
            case ast.Arg():
                for item in instruction.items:
                    value = options.build_args.get(item.name)
                    if value is None and item.default is not None:
                        value = expand(item.default, env, escape=escape)
                    if value is not None:
                        env.set(item.name, value)
            case ast.Add() if source is None:
                source = _added(instruction, env, escape, options.policies)
            case ast.Add():
                raise UserError(f"{EPOCH} stage must contain exactly one remote ADD")
            case _:
                raise UserError(
                    f"{EPOCH} stage does not meet source-only requirements: "
                    f"unsupported {instruction.keyword.upper()} instruction"
                )
    if source is None:
        raise UserError(f"{EPOCH} stage must contain exactly one remote ADD")
    return source


def _added(
    at: ast.Add, env: Environment, escape: str, policies: Policies | None
) -> GitSource | HttpSource:
    if len(at.sources) != 1 or not isinstance(at.sources[0], str):
        raise UserError(f"{EPOCH} stage must contain exactly one remote ADD source")
    name = expand(at.sources[0], env, escape=escape)
    checksum = expand(at.flag("checksum") or "", env, escape=escape)
    git = parse_git_url(name)
    if git is None and not is_http(name):
        raise UserError(f"{EPOCH} stage source must be a single HTTP(S) or Git ADD")
    return remote_source(at, name, git, checksum, policies)
