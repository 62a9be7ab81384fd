"""From the parsed file to the definition: the frontend's entry point.

Pure. What must be known of base images is asked for with `NeedImages` and handed in by calling
`lower` again; ONBUILD triggers of an image may name further images [OB-3], so that can happen
more than once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.frontend.lint.filecheck import check_file
from pybuild.frontend.lint.options import BUILD_ARG, CheckOptions
from pybuild.frontend.lint.report import Report
from pybuild.frontend.lowering.contexts import NamedContexts, VertexContext
from pybuild.frontend.lowering.epoch import global_scope, settle_epoch
from pybuild.frontend.lowering.evaluate import Evaluator, base_config, vertex_config
from pybuild.frontend.lowering.interface import (
    SYNTAX_ARG,
    ImageRequest,
    Lowered,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.lowering.stages import StageGraph, StageNode
from pybuild.frontend.lowering.stagestate import BuildScope, StageState
from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.stepnotes import MAX_AGE, PROBE, mentions
from pybuild.frontend.words.environment import (
    proxy_variables,
    unused_build_args,
)
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import LocalSource, Vertex, walk
from pybuild.model.span import Span
from pybuild.model.suggest import nearest
from pybuild.model.text import boolean

if TYPE_CHECKING:
    from pybuild.frontend.lowering.notes import StepNotes

Images = Mapping[ImageRequest, ResolvedImage]


def lower(
    dockerfile: ast.Dockerfile, options: LowerOptions, images: Images
) -> Lowered | NeedImages:
    """Return the definition of ``options.target``, or what must be resolved first.

    Args:
        images: those that earlier answers requested, by request.

    Raises:
        UserError: with the lines that are wrong.
    """
    planned = plan(
        dockerfile,
        options,
        images,
        Report(check_options(dockerfile.directives, options.build_args)),
    )
    if isinstance(planned, NeedImages):
        return planned
    evaluator = Evaluator(planned.graph, planned.scope, images)
    evaluator.add_all(planned.nodes)
    lowered = _finish(dockerfile, planned.scope, planned.graph, evaluator.states[planned.target])
    scans = scanned_trees(planned.target, evaluator.states, planned.scope)
    return replace(lowered, scans=scans) if scans else lowered


@dataclass(frozen=True, slots=True)
class LoweringPlan:
    """The nodes to evaluate, in this order; all images that they need are known.

    Attributes:
        nodes: after those that they need.
    """

    scope: BuildScope
    graph: StageGraph
    target: StageNode
    nodes: list[StageNode]


def plan(
    dockerfile: ast.Dockerfile,
    options: LowerOptions,
    images: Images,
    report: Report,
    *,
    all_stages: bool = False,
) -> LoweringPlan | NeedImages:
    """Check what the file says without looking into stages, and find out which of them count.

    Args:
        report: gets the findings, also when the answer is an error.
        all_stages: not only what the target needs.

    Raises:
        UserError: with the lines that are wrong.
    """
    if not dockerfile.stages:
        raise UserError("dockerfile contains no stages to build")
    contexts = NamedContexts(options.named_contexts, options.context_trees)
    names_frontend = dockerfile.directives.syntax or SYNTAX_ARG in options.build_args
    if names_frontend and not options.any_frontend:
        from pybuild.frontend.lowering.frontends import check_frontend

        check_frontend(dockerfile, options.build_args, contexts, options.target_platform)
    scope = _scope(dockerfile, options, report)
    check_file(dockerfile, options, scope.globals, report)
    graph = StageGraph(
        dockerfile,
        contexts=contexts,
        scope=scope.globals,
        target_platform=options.target_platform,
        default_platform=options.build_platform,
        policies=options.policies,
    )
    target = graph.target(options.target)
    while True:
        reachable = graph.everything() if all_stages else graph.reachable(target)
        graph.judge(reachable)
        added = [node for node in reachable if _add_triggers(graph, node, images)]
        if not added:
            break
    missing: dict[ImageRequest, tuple[Span, ...]] = {}
    for node in reachable:
        request = graph.request(node)
        if request is not None and request not in images:
            missing[request] = (*missing.get(request, ()), *node.spans)
    if missing:
        guesses = {request: guess for request in missing if (guess := graph.nearest_stage(request))}
        return NeedImages(tuple(missing), tuple(missing.values()), guesses)
    return LoweringPlan(scope, graph, target, reachable)


def check_options(directives: ast.Directives, build_args: Mapping[str, str]) -> CheckOptions:
    """Return the options of the directive, or of the build arg that replaces it.

    Raises:
        UserError: it is not valid.
    """
    given = build_args.get(BUILD_ARG)
    return CheckOptions.parse((directives.check or "") if given is None else given)


def _scope(dockerfile: ast.Dockerfile, options: LowerOptions, report: Report) -> BuildScope:
    scope = global_scope(dockerfile, options)
    options, scope, epoch = settle_epoch(dockerfile, options, scope)
    return BuildScope(
        options=options,
        globals=scope,
        escape=dockerfile.directives.escape,
        epoch=epoch,
        proxy_env=proxy_variables(options.build_args),
        report=report,
        notes=_notes(dockerfile, options),
    )


def _notes(dockerfile: ast.Dockerfile, options: LowerOptions) -> StepNotes | None:
    if not options.max_ages and not any(mentions(dockerfile.lines, it) for it in (MAX_AGE, PROBE)):
        return None  # most files
    from pybuild.frontend.lowering.notes import StepNotes

    return StepNotes.of(dockerfile, options.max_ages)


# --- ONBUILD --------------------------------------------------------------------------------------


def _add_triggers(graph: StageGraph, node: StageNode, images: Images) -> bool:
    """Give a stage its base's triggers as soon as they are known; return whether it got any."""
    if node.index < 0 or node.replaced or node.triggers_added:
        return False
    base = node.origin
    if isinstance(base, StageNode) and not base.replaced:
        onbuilds = [s.instruction for s in base.steps if isinstance(s.instruction, ast.Onbuild)]
        triggers = [replace(item.trigger, span=node.spans[0]) for item in onbuilds]
    elif isinstance(base, VertexContext):
        config = vertex_config(base, graph.platform)
        triggers = [_parse_trigger(text, node) for text in config.triggers]
    else:
        request = graph.request(base if isinstance(base, StageNode) else node)
        if request is None:
            return False
        if request not in images:
            return False
        config = base_config(images[request], request)
        triggers = [_parse_trigger(text, node) for text in config.triggers]
    graph.add_triggers(node, triggers)
    return bool(triggers)


def _parse_trigger(text: str, node: StageNode) -> ast.Instruction:
    from pybuild.frontend.syntax.parse import (
        parse_instruction,  # the grammar: only when really needed
    )

    try:
        trigger = parse_instruction(text, node.spans[0], "\\")
    except PybuildError as error:
        raise error.with_spans(node.spans) from None
    if isinstance(trigger, (ast.From, ast.Maintainer, ast.Onbuild)):
        keyword = trigger.keyword.upper()
        raise UserError(f"{keyword} isn't allowed as an ONBUILD trigger", spans=node.spans)
    return trigger


# --- the result -----------------------------------------------------------------------------------


def _finish(
    dockerfile: ast.Dockerfile, scope: BuildScope, graph: StageGraph, state: StageState
) -> Lowered:
    options = scope.options
    image = state.image
    if options.labels:
        image.run.setdefault("Labels", {}).update(options.labels)  # [LBL-1]
    if options.platform_explicit or image.platform is None:
        image.set_platform(options.target_platform)
    declared = frozenset(_declared(dockerfile, graph))
    unused = unused_build_args(options.build_args, declared, scope.globals)
    if unused:
        near = sorted({name for arg in unused if len(arg) > 2 and (name := nearest(arg, declared))})
        meant = f" (did you mean {', '.join(near)}?)" if near else ""
        scope.report.note(f"One or more build-args [{' '.join(unused)}] were not consumed{meant}")
    scope.report.finish()
    sources = (vertex.op for vertex in walk(state.vertex))
    return Lowered(
        result=state.vertex,
        config=image.to_json(),
        base_layer_count=image.base_layer_count,
        history=tuple(image.added),
        contexts=frozenset(op.name for op in sources if isinstance(op, LocalSource)),
        platform=image.platform or options.target_platform,
        warnings=scope.report.warnings,
        advice=scope.report.advice,
        epoch=scope.epoch,
    )


def _declared(dockerfile: ast.Dockerfile, graph: StageGraph) -> Iterable[str]:
    """Yield the names of all ARGs of the file and of triggers [EV-8]."""
    instructions: list[ast.Instruction] = list(dockerfile.global_args)
    for stage in dockerfile.stages:
        instructions += stage.body
    for node in graph.stages:
        instructions += [step.instruction for step in node.steps if step.triggered]
    for instruction in instructions:
        if isinstance(instruction, ast.Arg):
            yield from (item.name for item in instruction.items)


_CONTEXT, _STAGE = "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"


def scanned_trees(
    target: StageNode, states: Mapping[StageNode, StageState], scope: BuildScope
) -> dict[str, Vertex]:
    """Return the stages that ask for it, by name, and the build context, as ``context``.

    Only what the target needs is in *states*, so nothing is built for a scan alone. The two ARGs
    count in the stage that declares them, or everywhere where they stand before the first FROM.
    """
    trees: dict[str, Vertex] = {}
    if _asks(target, states[target], scope, _CONTEXT):
        trees["context"] = scope.local("context")
    for node, state in states.items():
        if node is not target and node.index >= 0 and _asks(node, state, scope, _STAGE):
            trees[node.label] = state.vertex
    return trees


def _asks(node: StageNode, state: StageState, scope: BuildScope, name: str) -> bool:
    """Return whether the variable says yes, or names the stage."""
    values = [value for key, value in state.args if key == name and value is not None]
    value = values[-1] if values else scope.globals.get(name, "")
    answer = boolean(value)
    if answer is None:
        return bool(node.name) and node.name in value.split(",")
    return answer
