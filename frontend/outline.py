"""The outline of a file, without building it: its targets, and the arguments of one of them [UI-6]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from pybuild.frontend.lint.filecheck import Watched
from pybuild.frontend.lint.options import CheckOptions
from pybuild.frontend.lint.report import Report
from pybuild.frontend.lowering.evaluate import Evaluator
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.lowering.lower import plan
from pybuild.frontend.lowering.stages import StageNode
from pybuild.frontend.lowering.stagestate import BuildScope
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.environment import automatic_args
from pybuild.frontend.words.expand import expand
from pybuild.model.dataclass import dataclass
from pybuild.model.ops import ExecOp, MountType, walk
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInfo:
    """A stage as ``--call=targets`` lists it; base and platform as written."""

    name: str
    base: str
    platform: str
    description: str
    default: bool
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgInfo:
    """An argument that the target uses; *value* is what it has, empty for none."""

    name: str
    value: str
    description: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class MountInfo:
    """A secret, an ssh agent or a cache that a step of the target asks for."""

    name: str
    required: bool
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The arguments, secrets and the like that one target takes; each list by line."""

    name: str
    description: str
    args: tuple[ArgInfo, ...]
    secrets: tuple[MountInfo, ...]
    ssh: tuple[MountInfo, ...]
    caches: tuple[MountInfo, ...]


def list_stages(dockerfile: ast.Dockerfile) -> tuple[StageInfo, ...]:
    """Return all stages in file order; nothing is expanded."""
    last = len(dockerfile.stages) - 1
    return tuple(
        StageInfo(
            name=stage.start.name,
            base=stage.start.base,
            platform=stage.start.platform,
            description=doc_comment(stage.start.comments, stage.start.name),
            default=index == last,
            span=stage.start.span,
        )
        for index, stage in enumerate(dockerfile.stages)
    )


def outline(
    dockerfile: ast.Dockerfile,
    options: LowerOptions,
    images: Mapping[ImageRequest, ResolvedImage],
) -> Outline | NeedImages:
    """Return the outline of ``options.target``, or the images that must be known first.

    Raises:
        UserError: with the lines that are wrong.
    """
    planned = plan(dockerfile, options, images, Report(CheckOptions(skip_all=True)))
    if isinstance(planned, NeedImages):
        return planned
    evaluator = Evaluator(planned.graph, planned.scope, images)
    evaluator.add_all(planned.nodes)
    start = dockerfile.stages[planned.target.index].start
    runs = [v for v in walk(evaluator.states[planned.target].vertex) if isinstance(v.op, ExecOp)]
    mounts: dict[MountType, dict[str, MountInfo]] = {}
    for vertex in sorted(runs, key=lambda vertex: vertex.meta.spans[0].first_line):
        assert isinstance(vertex.op, ExecOp)
        for mount in vertex.op.mounts:
            name = mount.cache_id if mount.type is MountType.CACHE else mount.id
            info = MountInfo(name=name, required=mount.required, span=vertex.meta.spans[0])
            mounts.setdefault(mount.type, {}).setdefault(name, info)
    return Outline(
        name=start.name,
        description=doc_comment(start.comments, start.name),
        args=_arguments(dockerfile, planned.scope, planned.nodes, evaluator),
        secrets=tuple(mounts.get(MountType.SECRET, {}).values()),
        ssh=tuple(mounts.get(MountType.SSH, {}).values()),
        caches=tuple(mounts.get(MountType.CACHE, {}).values()),
    )


def doc_comment(comments: Iterable[str], name: str) -> str:
    """Return the description of *name* in the comment above its definition [UI-5]."""
    for line in comments:
        if name and line.startswith(name + " "):
            return line[len(name) + 1 :]
    return ""


# --- arguments ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Global:
    """A global argument, after its last definition; *needs* are those in its value."""

    info: ArgInfo
    needs: set[str] = field(default_factory=set[str])


def _arguments(
    dockerfile: ast.Dockerfile, scope: BuildScope, nodes: Iterable[StageNode], evaluator: Evaluator
) -> tuple[ArgInfo, ...]:
    """Return each argument that the FROM lines or the ARGs of *nodes* use, once, by line."""
    defined = _globals(dockerfile, scope)
    used: set[str] = set()
    infos: dict[str, ArgInfo] = {}
    for node in nodes:
        if node.index < 0:
            continue
        start = dockerfile.stages[node.index].start
        used |= _variables(start.base, scope) | _variables(start.platform, scope)
        if node.replaced:
            continue
        base = evaluator.states[node.origin].args if isinstance(node.origin, StageNode) else []
        values = evaluator.states[node].args[len(base) :]
        for item, at in _items(step.instruction for step in node.steps):
            name, value = values.pop(0)
            is_ours = item.default is not None or name in scope.options.build_args
            if name in scope.globals and not is_ours:
                used.add(name)  # perhaps an automatic one, which is not worth a line
            else:
                infos[name] = _info(item, at, value or "")
    # What a used argument's value is made of is used as well.
    pending = list(used)
    while pending:
        name = pending.pop()
        if name in defined:
            infos.setdefault(name, defined[name].info)
            new = defined[name].needs - used
            used |= new
            pending += new
    return tuple(sorted(infos.values(), key=lambda info: info.span.first_line))


def _globals(dockerfile: ast.Dockerfile, scope: BuildScope) -> dict[str, _Global]:
    """Follow the global ARGs down the file, noting which variables made which value."""
    given = scope.options.build_args
    options = scope.options
    values = dict(automatic_args(options.target_platform, options.build_platform, "", given))
    defined: dict[str, _Global] = {}
    for item, at in _items(dockerfile.global_args):
        value, needs = given.get(item.name), set[str]()
        if value is None and item.default is not None:
            watched = Watched(values)
            value = expand(item.default, watched, escape=scope.escape)
            needs = watched.names
            if item.name in needs and item.name in defined:
                needs |= defined[item.name].needs
        if value is not None:
            values[item.name] = value
        defined[item.name] = _Global(_info(item, at, value or ""), needs - {item.name})
    return defined


def _items(instructions: Iterable[ast.Instruction]) -> Iterable[tuple[ast.ArgItem, ast.Arg]]:
    for instruction in instructions:
        if isinstance(instruction, ast.Arg):
            for item in instruction.items:
                yield item, instruction


def _info(item: ast.ArgItem, at: ast.Arg, value: str) -> ArgInfo:
    description = doc_comment(at.comments, item.name)
    return ArgInfo(name=item.name, value=value, description=description, span=at.span)


def _variables(word: str, scope: BuildScope) -> set[str]:
    watched = Watched(scope.globals)
    expand(word, watched, escape=scope.escape)
    return watched.names
