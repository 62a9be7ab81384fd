"""From the parsed file to the definition: the frontend's entry point.

Pure. What must be known of base images is asked for with `NeedImages` and handed in by calling
`lower` again; ONBUILD triggers of an image may name further images [OB-3], so that can happen
more than once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pybuild.frontend import ast
from pybuild.frontend.contexts import ImageContext, LocalContext, NamedContexts
from pybuild.frontend.environment import (
    DEFAULT_PATH,
    add_global_args,
    automatic_args,
    proxy_variables,
    source_date_epoch,
    unused_build_args,
)
from pybuild.frontend.expand import expand
from pybuild.frontend.imageconfig import EXPORTER_COMMENT, ImageConfig
from pybuild.frontend.lint.report import CheckOptions, Report
from pybuild.frontend.lint.rules import Rule
from pybuild.frontend.lint.static import check_file
from pybuild.frontend.lowering import (
    HistoryItem,
    ImageRequest,
    Lowered,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.metadata import apply_metadata
from pybuild.frontend.names import StepNames
from pybuild.frontend.runstep import apply_run
from pybuild.frontend.stages import Node, RegistryImage, StageGraph, Step
from pybuild.frontend.stagestate import SCRATCH, BuildScope, StageState
from pybuild.frontend.syntax import check_frontend
from pybuild.frontend.transfer import apply_transfer, apply_workdir
from pybuild.model.errors import InternalError, PybuildError, UserError
from pybuild.model.ops import Copy, FileOp, ImageSource, LocalSource, Vertex, VertexMeta, walk

Images = Mapping[ImageRequest, ResolvedImage]


def lower(
    dockerfile: ast.Dockerfile, options: LowerOptions, images: Images
) -> Lowered | NeedImages:
    """Return the definition of ``options.target``, or what must be resolved first.

    Args:
        images: what earlier answers asked for, by request.

    Raises:
        UserError: with the lines that are wrong.
    """
    if not dockerfile.stages:
        raise UserError("dockerfile contains no stages to build")
    contexts = NamedContexts(options.named_contexts)
    check_frontend(dockerfile, options.build_args, contexts, options.target_platform)
    scope = _scope(dockerfile, options)
    graph = StageGraph(
        dockerfile,
        contexts=contexts,
        scope=scope.globals,
        target_platform=options.target_platform,
        default_platform=options.build_platform,
    )
    target = graph.target(options.target)
    while True:
        reachable = graph.reachable(target)
        added = [node for node in reachable if _add_triggers(graph, node, images)]
        if not added:
            break
    requests = filter(None, (graph.request(node) for node in reachable))
    missing = tuple(dict.fromkeys(item for item in requests if item not in images))
    if missing:
        return NeedImages(missing)
    check_file(dockerfile, scope)
    lowering = _Lowering(graph, scope, images)
    for node in reachable:
        lowering.add(node)
    return _finish(dockerfile, scope, graph, lowering.states[target])


def _scope(dockerfile: ast.Dockerfile, options: LowerOptions) -> BuildScope:
    escape = dockerfile.directives.escape
    args = options.build_args
    checks = args.get("BUILDKIT_DOCKERFILE_CHECK", dockerfile.directives.check) or ""
    stage = options.target or dockerfile.stages[-1].start.name
    scope = add_global_args(
        automatic_args(options.target_platform, options.build_platform, stage, args),
        dockerfile.global_args,
        args,
        lambda word, env: expand(word, env, escape=escape),
    )
    return BuildScope(
        options=options,
        globals=scope,
        escape=escape,
        epoch=source_date_epoch(args, scope),
        proxy_env=proxy_variables(args),
        report=Report(CheckOptions.parse(checks)),
    )


# --- ONBUILD --------------------------------------------------------------------------------------


def _add_triggers(graph: StageGraph, node: Node, images: Images) -> bool:
    """Give a stage its base's triggers as soon as they are known; return whether it got any."""
    if node.index < 0 or node.replaced or node.triggers_added:
        return False
    base = node.origin
    if isinstance(base, Node) and not base.replaced:
        onbuilds = [s.instruction for s in base.steps if isinstance(s.instruction, ast.Onbuild)]
        triggers = [replace(item.trigger, span=node.spans[0]) for item in onbuilds]
    else:
        request = graph.request(base if isinstance(base, Node) else node)
        if request is None:
            return False
        if request not in images:
            return False
        config = _image_config(images[request], request)
        triggers = [_parse_trigger(text, node) for text in config.triggers]
    graph.add_triggers(node, triggers)
    return bool(triggers)


def _parse_trigger(text: str, node: Node) -> ast.Instruction:
    from pybuild.frontend.parse import parse_instruction  # the grammar: only when really needed

    try:
        trigger = parse_instruction(text, node.spans[0], "\\")
    except PybuildError as error:
        raise error.with_spans(node.spans) from None
    if isinstance(trigger, (ast.From, ast.Maintainer, ast.Onbuild)):
        keyword = trigger.keyword.upper()
        raise UserError(f"{keyword} isn't allowed as an ONBUILD trigger", spans=node.spans)
    return trigger


def _image_config(image: ResolvedImage, request: ImageRequest) -> ImageConfig:
    return ImageConfig.of_image(image.config, image.layer_count, request.reference.familiar)


# --- stages ---------------------------------------------------------------------------------------


class _Lowering:
    """Turns nodes into trees, each after all that it needs.

    Attributes:
        states: finished nodes; their `vertex` serves as the root of stages based on them.
    """

    def __init__(self, graph: StageGraph, scope: BuildScope, images: Images) -> None:
        self._graph = graph
        self._scope = scope
        self._images = images
        self._trees: dict[Node, Vertex] = {}
        self.states: dict[Node, StageState] = {}

    def add(self, node: Node) -> None:
        try:
            state = self._start(node)
        except PybuildError as error:
            raise error.with_spans(node.spans) from None
        for step in node.steps:
            try:
                self._apply(state, step)
            except PybuildError as error:
                raise error.with_spans((step.instruction.span,)) from None
        self.states[node] = state
        local = node.origin if node.index < 0 or node.replaced else None
        if isinstance(local, LocalContext):  # read in place, nothing needs a snapshot of it
            self._trees[node] = self._scope.local(local.name)
        else:
            self._trees[node] = state.vertex

    # --- where a stage starts ---

    def _start(self, node: Node) -> StageState:
        state = self._root(node)
        if state.platform.os != "linux":
            raise UserError(f"platform {state.platform} is not supported: only linux is")
        if not any(name == "PATH" for name, _ in state.image.environment):
            state.image.set_env("PATH", DEFAULT_PATH)  # [EV-9]
        for name, value in state.image.environment:
            # Also on top of a base stage's variables: an ARG there that went before an ENV of
            # the same name has ended with it.
            state.env.set(name, value)
        workdir = state.image.workdir
        if workdir and not workdir.startswith("/"):
            state.image.run["WorkingDir"] = "/" + workdir
        return state

    def _root(self, node: Node) -> StageState:
        scope = self._scope
        names = self._names(node)
        stage = "" if node.index < 0 else node.label
        no_cache = scope.options.no_cache or bool(
            node.name and node.name in scope.options.no_cache_filter
        )
        if isinstance(node.origin, Node):
            base = self.states[node.origin]
            return StageState(
                scope=scope,
                vertex=base.vertex,
                image=base.image.child(),
                platform=base.platform,
                names=names,
                label=stage,
                ignore_cache=no_cache,
                env=base.env.copy(),
                args=list(base.args),
                has_workdir=base.has_workdir,
            )
        target = scope.options.target_platform
        state = StageState(
            scope=scope,
            vertex=SCRATCH,
            image=ImageConfig.empty(target),
            platform=target,
            names=names,
            label=stage,
            ignore_cache=no_cache,
        )
        request = self._graph.request(node)
        if request is not None:
            self._use_image(state, node, request)
        elif isinstance(node.origin, LocalContext):
            state.platform = node.platform or target
            state.image = ImageConfig.empty(state.platform)
            if node.index >= 0:
                self._materialise(state, node, node.origin)
        return state

    def _use_image(self, state: StageState, node: Node, request: ImageRequest) -> None:
        """Start from an image, whichever way it was named."""
        resolved = self._images[request]
        state.image = _image_config(resolved, request)
        state.image.run.pop("OnBuild", None)  # consumed [FROM-14]
        state.platform = expected = request.platform
        actual = state.image.platform
        differs = actual is not None and (actual.os, actual.arch) != (expected.os, expected.arch)
        if actual is not None and differs and node.platform is None:
            self._scope.report.add(
                Rule.INVALID_BASE_IMAGE_PLATFORM,
                node.base_name,
                str(actual),
                str(expected),
                spans=node.spans,
            )
            if not self._scope.options.platform_explicit:
                state.platform = actual
        if not resolved.layer_count:
            return  # [FROM-16]
        reference = request.reference.with_digest(resolved.digest)
        if isinstance(node.origin, ImageContext):
            title = f"[context {node.origin.name}] {reference}"
        else:
            title = state.names.next(state.platform, {}) + f"FROM {reference}"
        op = ImageSource(digest=resolved.digest, reference=reference, platform=resolved.platform)
        state.vertex = Vertex(op, meta=VertexMeta(name=title, spans=node.spans, stage=state.label))

    def _materialise(self, state: StageState, node: Node, context: LocalContext) -> None:
        """Make a layer of a local context, since a stage cannot be built upon the client's files."""
        copy = Copy(input=1, source="/", dest="/", follow_source_links=False)
        source = self._scope.local(context.name)
        title = f"[context {context.name}] copy into stage {node.label}"
        state.vertex = Vertex(
            FileOp(actions=(copy,)),
            (SCRATCH, source),
            VertexMeta(name=title, spans=node.spans, stage=state.label),
        )
        state.image.added.append(
            HistoryItem(created_by=title, vertex=state.vertex, comment=EXPORTER_COMMENT)
        )

    def _names(self, node: Node) -> StepNames:
        total = 0
        if node.index >= 0:
            counted = (ast.Run, ast.Copy, ast.Add, ast.Workdir)
            total = sum(isinstance(step.instruction, counted) for step in node.steps)
            total += isinstance(node.origin, RegistryImage)
        return StepNames(
            "" if self._graph.single else node.label,
            total,
            show_platform=self._scope.options.multi_platform,
        )

    # --- what a stage does ---

    def _apply(self, state: StageState, step: Step) -> None:
        at = step.instruction
        if apply_metadata(state, at):
            return
        match at:
            case ast.Run():
                apply_run(state, at, step, self._trees.get)
            case ast.Copy() | ast.Add():
                apply_transfer(state, at, self._copy_source(state, step), step.triggered)
            case ast.Workdir():
                apply_workdir(state, at, step.triggered)
            case _:
                raise InternalError(f"no lowering for {type(at).__name__}")

    def _copy_source(self, state: StageState, step: Step) -> Vertex:
        if not step.sources:
            return self._scope.local("context")
        node = step.sources[0]
        tree = self._trees.get(node) if node is not None else None
        if tree is None:
            name = step.instruction.flag("from")
            raise UserError(
                f'cannot copy from stage "{name}", it needs to be defined before current stage'
                f' "{state.label}"'
            )
        return tree


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
    unused = unused_build_args(
        options.build_args, frozenset(_declared(dockerfile, graph)), scope.globals
    )
    if unused:
        scope.report.note(f"One or more build-args [{' '.join(unused)}] were not consumed")
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
