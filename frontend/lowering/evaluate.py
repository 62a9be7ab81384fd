"""Turns nodes of the stage graph into trees and configs, one instruction after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pybuild.frontend.lint.stages import Pulled, check_base_platform
from pybuild.frontend.lowering.contexts import (
    ImageContext,
    LocalContext,
    RemoteContext,
    VertexContext,
)
from pybuild.frontend.lowering.copy import apply_transfer, apply_workdir
from pybuild.frontend.lowering.imageconfig import EXPORTER_COMMENT, ImageConfig
from pybuild.frontend.lowering.interface import HistoryItem, ImageRequest, ResolvedImage
from pybuild.frontend.lowering.metadata import apply_metadata
from pybuild.frontend.lowering.names import StepNames
from pybuild.frontend.lowering.run import apply_run
from pybuild.frontend.lowering.stages import RegistryImage, StageGraph, StageNode, Step
from pybuild.frontend.lowering.stagestate import SCRATCH, BuildScope, StageState
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.environment import DEFAULT_PATH
from pybuild.model.errors import InternalError, PybuildError, UserError
from pybuild.model.ops import (
    Copy,
    FileOp,
    ImageSource,
    OciLayoutSource,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import Platform


def base_config(image: ResolvedImage, request: ImageRequest) -> ImageConfig:
    """Return an image's config as the start of a stage."""
    return ImageConfig.of_image(image.config, image.layer_count, request.reference.familiar)


def vertex_config(context: VertexContext, platform: Platform) -> ImageConfig:
    """Return the config of a tree that is defined already as the start of a stage."""
    if context.config is None:
        return ImageConfig.empty(platform)
    config = ImageConfig.of_image(context.config, -1, context.name)
    if not config.top.get("os"):
        config.set_platform(platform)
    return config


class Evaluator:
    """Turns nodes into trees, each after all that it needs.

    Attributes:
        states: finished nodes; their `vertex` serves as the root of stages based on them.
    """

    def __init__(
        self, graph: StageGraph, scope: BuildScope, images: Mapping[ImageRequest, ResolvedImage]
    ) -> None:
        self._graph = graph
        self._scope = scope
        self._images = images
        self._trees: dict[StageNode, Vertex] = {}
        self.states: dict[StageNode, StageState] = {}

    def add_all(self, nodes: Iterable[StageNode]) -> None:
        """Evaluate *nodes*, which come after those that they need.

        Raises:
            UserError: the first instruction that cannot be.
        """
        for node in nodes:
            self.add(node)

    def add(self, node: StageNode) -> None:
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

    def _start(self, node: StageNode) -> StageState:
        state = self._root(node)
        has_path = any(name == "PATH" for name, _ in state.image.environment)
        if not has_path and not state.is_windows:
            state.image.set_env("PATH", DEFAULT_PATH)  # [EV-9]
        for name, value in state.image.environment:
            # Also on top of a base stage's variables: an ARG there that went before an ENV of
            # the same name has ended with it.
            state.env.set(name, value)
        workdir = state.image.workdir
        if workdir and not workdir.startswith("/") and not state.is_windows:
            state.image.run["WorkingDir"] = "/" + workdir
        return state

    def _root(self, node: StageNode) -> StageState:
        scope = self._scope
        names = self._names(node)
        stage = "" if node.index < 0 else node.label
        no_cache = scope.options.no_cache or bool(
            node.name and node.name in scope.options.no_cache_filter
        )
        notes = scope.notes if node.index >= 0 else None
        max_age_s = None if notes is None else notes.age_of_stage(node.at, node.name)
        if isinstance(node.origin, StageNode):
            base = self.states[node.origin]
            scope.spend(16 * (base.image.size + len(base.env) + len(base.args)))
            return StageState(
                scope=scope,
                vertex=base.vertex,
                image=base.image.child(),
                platform=base.platform,
                names=names,
                label=stage,
                ignore_cache=no_cache,
                max_age_s=max_age_s,
                env=base.env.copy(),
                args=list(base.args),
                declared=set(base.declared),
                has_workdir=base.has_workdir,
                base_known=base.base_known,
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
            max_age_s=max_age_s,
        )
        request = self._graph.request(node)
        if request is not None:
            self._use_image(state, node, request)
        elif isinstance(node.origin, LocalContext):
            state.platform = node.platform or target
            state.image = ImageConfig.empty(state.platform)
            if node.index >= 0:
                self._materialise(state, node, node.origin)
        elif isinstance(node.origin, VertexContext):
            state.platform = node.platform or target
            self._use_vertex(state, node, node.origin)
        elif isinstance(node.origin, RemoteContext):
            state.platform = node.platform or target
            state.image = ImageConfig.empty(state.platform)
            self._use_remote(state, node, node.origin)
        return state

    def _use_vertex(self, state: StageState, node: StageNode, context: VertexContext) -> None:
        """Start from a tree that is defined already, and the config it came with."""
        state.vertex = context.vertex
        state.image = vertex_config(context, state.platform)
        if context.config is None and node.index >= 0:
            state.image.base_layer_count = -1

    def _use_remote(self, state: StageState, node: StageNode, context: RemoteContext) -> None:
        """Start from the tree of a repository, or from one file; neither has a config [NC-5]."""
        title = f"[context {context.name}] {context.shown}"
        meta = VertexMeta(name=title, spans=node.spans, stage=state.label)
        state.vertex = Vertex(context.source, meta=meta)
        if node.index >= 0:
            state.image.added.append(
                HistoryItem(created_by=title, vertex=state.vertex, comment=EXPORTER_COMMENT)
            )

    def _use_image(self, state: StageState, node: StageNode, request: ImageRequest) -> None:
        """Start from an image, whichever way it was named."""
        resolved = self._images[request]
        state.image = base_config(resolved, request)
        state.image.run.pop("OnBuild", None)  # consumed [FROM-14]
        state.platform = expected = request.platform
        actual = state.image.platform
        state.base_known = resolved.known
        differs = actual is not None and (actual.os, actual.arch) != (expected.os, expected.arch)
        is_implicit = node.platform is None and not self._scope.options.platform_explicit
        if actual is not None and differs and is_implicit:
            state.platform = actual
        if not resolved.layer_count:
            return  # [FROM-16]
        if actual is not None and isinstance(node.origin, RegistryImage):
            pulled = Pulled(node.base_name, expected, actual)
            check_base_platform(pulled, node.at, node.spans, self._scope.report)
        reference = request.reference.with_digest(resolved.digest)
        if isinstance(node.origin, ImageContext):
            title = f"[context {node.origin.name}] {reference}"
        else:
            title = state.names.next(state.platform, {}) + f"FROM {reference}"
        digest, platform = resolved.digest, resolved.platform
        op: ImageSource | OciLayoutSource
        if request.layout:
            title = f"[context {node.base_name}] OCI load from client"
            op = OciLayoutSource(path=request.layout, digest=digest, platform=platform)
        else:
            op = ImageSource(digest=digest, reference=reference, platform=platform)
        state.vertex = Vertex(op, meta=VertexMeta(name=title, spans=node.spans, stage=state.label))

    def _materialise(self, state: StageState, node: StageNode, context: LocalContext) -> None:
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

    def _names(self, node: StageNode) -> StepNames:
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
