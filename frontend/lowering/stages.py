"""The graph of stages: what each starts from, what it takes from others, what is needed [FROM]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.frontend.lowering.contexts import ImageContext, NamedContext, NamedContexts
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.frontend.lowering.mounts import mount_sources
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.expand import expand
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.span import Span
from pybuild.model.suggest import did_you_mean, nearest

if TYPE_CHECKING:
    from pybuild.model.policy import Policies

# As for the instructions of a file: a few that are multiplied must not keep a daemon busy.
MAX_TRIGGERS = 10_000
_MOST_GUESSED = 200  # stages that an image's name is compared with
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class ScratchBase:
    """The empty tree."""


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """An image that no stage and no context stands for."""

    reference: Reference


@dataclass(eq=False, slots=True, kw_only=True)
class Step:
    """An instruction of a stage, with the nodes that it names.

    Attributes:
        sources: of COPY: what ``--from`` names, or nothing; of RUN: one for each mount, in order,
            None where a mount names nothing.
        triggered: it comes from an ONBUILD of the base.
    """

    instruction: ast.Instruction
    sources: tuple[StageNode | None, ...] = ()
    triggered: bool = False


@dataclass(eq=False, slots=True, kw_only=True)
class StageNode:
    """A stage, or an image or context that a COPY or a mount names.

    Attributes:
        base_name: the name in FROM or ``--from``, expanded.
        at: the instruction that has it.
        index: its place in the file; -1 for what is not a stage.
        name: lower case; empty for an unnamed stage.
        origin: the start of its tree.
        platform: of ``--platform``; None when that was not given.
        replaced: a named context stands for the stage; its own instructions do not count [NC-7].
        judged: policies have had their say about the origin.
    """

    base_name: str
    at: ast.Instruction
    index: int = -1
    name: str = ""
    origin: StageNode | ScratchBase | NamedContext | RegistryImage
    platform: Platform | None = None
    replaced: bool = False
    steps: list[Step] = field(default_factory=list[Step])
    triggers_added: bool = False
    judged: bool = False

    @property
    def spans(self) -> tuple[Span, ...]:
        return (self.at.span,)

    @property
    def label(self) -> str:
        """The node's name in messages and progress."""
        if self.index < 0:
            return self.base_name
        return self.name or f"stage-{self.index}"

    def needs(self) -> Iterable[StageNode]:
        """Yield the nodes that must be there before this one."""
        if isinstance(self.origin, StageNode):
            yield self.origin
        for step in self.steps:
            yield from (source for source in step.sources if source is not None)


class StageGraph:
    """All stages of a file.

    Attributes:
        platform: of the result.

    Raises:
        UserError: a FROM that cannot be read, a source that cannot be, or a cycle.
    """

    def __init__(
        self,
        dockerfile: ast.Dockerfile,
        *,
        contexts: NamedContexts,
        scope: Mapping[str, str],
        target_platform: Platform,
        default_platform: Platform,
        policies: Policies | None = None,
    ) -> None:
        self._policies = policies
        self._contexts = contexts
        self._scope = scope
        self._escape = dockerfile.directives.escape
        self._target_platform = self.platform = target_platform
        self._default_platform = default_platform
        self._by_name: dict[str, StageNode] = {}
        self._external: dict[str, StageNode] = {}
        self._triggers = 0
        self.stages: list[StageNode] = []
        for stage in dockerfile.stages:
            try:
                node = self._stage(stage)
            except PybuildError as error:
                raise error.with_spans((stage.start.span,)) from None
            self.stages.append(node)
            if node.name:
                self._by_name[node.name] = node
        for node, stage in zip(self.stages, dockerfile.stages, strict=True):
            if not node.replaced:
                node.steps = [self._step(item) for item in stage.body]
        self._refuse_cycles()
        self.single = len(self.stages) + len(self._external) == 1

    # --- building ---

    def _expand(self, word: str) -> str:
        return expand(word, self._scope, escape=self._escape)

    def _stage(self, stage: ast.Stage) -> StageNode:
        start = stage.start
        base = self._expand(start.base)
        if not base:
            raise UserError(
                f"base name ({start.base}) should not be blank", hints=(_valued(start.base),)
            )
        platform = _platform(start.platform, self._scope, self._escape, self._default_platform)
        node = StageNode(
            base_name=base,
            at=start,
            index=stage.index,
            name=start.name,
            origin=ScratchBase(),
            platform=platform,
        )
        context = None
        if start.name:
            context = self._contexts.find(start.name, platform or self._target_platform)
        if context is not None:
            node.origin, node.replaced = context, True
        else:
            node.origin = self._by_name.get(base) or self._outside(base, platform, start.base)
        return node

    def _outside(
        self, name: str, platform: Platform | None, written: str = ""
    ) -> ScratchBase | NamedContext | RegistryImage:
        """Return the image or context called *name* when no stage is [FROM-3, FROM-6]."""
        if name == "scratch":
            return ScratchBase()
        context = self._contexts.find(name, platform or self._target_platform)
        if context is not None:
            return context
        try:
            reference = Reference.parse(name)
        except ValueError as error:
            hints = _meant(name, written)
            if name.lower() in self._by_name:  # FROM Base after FROM x AS Base [FROM-4]
                hints = (f"stage names are lower case; did you mean {name.lower()}?",)
            raise UserError(f'failed to parse stage name "{name}": {error}', hints=hints) from error
        return RegistryImage(reference)

    def _step(self, instruction: ast.Instruction, *, triggered: bool = False) -> Step:
        sources: tuple[StageNode | None, ...] = ()
        try:
            match instruction:
                case ast.Copy():
                    name = instruction.flag("from")
                    if name:
                        sources = (self._named(name, instruction, by_index=True),)
                case ast.Run():
                    sources = tuple(
                        self._named(name, instruction, by_index=False) if name else None
                        for name in mount_sources(instruction)
                    )
                case _:
                    pass
        except PybuildError as error:
            raise error.with_spans((instruction.span,)) from None
        return Step(instruction=instruction, sources=sources, triggered=triggered)

    def _named(self, name: str, instruction: ast.Instruction, *, by_index: bool) -> StageNode:
        """Return the node that a COPY or a mount calls *name* [CP-30, FROM-7]."""
        if by_index and _INTEGER.match(name):
            if not 0 <= int(name) < len(self.stages):
                last = len(self.stages) - 1
                hint = f"stages are counted from 0 to {last}; a name says more: --from=NAME"
                raise UserError(f"invalid stage index {int(name)}", hints=(hint,))
            return self.stages[int(name)]
        if by_index and expand(name, {}, escape=self._escape) != name:
            raise UserError(
                "variable expansion is not supported for --from, define a new stage with FROM"
                " using ARG from global scope as a workaround"
            )
        stage = self._by_name.get(name.lower())
        if stage is not None:
            return stage
        if name not in self._external:
            self._external[name] = StageNode(
                base_name=name, at=instruction, origin=self._outside(name, None)
            )
        return self._external[name]

    def judge(self, nodes: Iterable[StageNode]) -> None:
        """Let policies judge what the nodes start as, once: what is not needed is not their matter.

        Raises:
            UserError: they refuse it.
        """
        if not self._policies:
            return
        from pybuild.model.policy import UndecidedSources  # most builds have no policies

        gathered = UndecidedSources()
        for node in nodes:
            if node.judged or isinstance(node.origin, StageNode | ScratchBase):
                continue
            platform = node.platform or self._target_platform
            with gathered:
                try:
                    node.origin = _judged(self._policies, node.base_name, node.origin, platform)
                except PybuildError as error:
                    raise error.with_spans(node.spans) from None
                node.judged = True
        gathered.finish()

    def add_triggers(self, node: StageNode, triggers: Iterable[ast.Instruction]) -> None:
        """Put ONBUILD triggers in front of the stage's own instructions, once [OB-2].

        Raises:
            UserError: one of them closes a cycle or names what cannot be.
        """
        if not node.triggers_added and not node.replaced:
            node.triggers_added = True
            triggers = tuple(triggers)
            self._triggers += len(triggers)
            if self._triggers > MAX_TRIGGERS:
                raise UserError(
                    f"more than {MAX_TRIGGERS} instructions come from ONBUILD", spans=node.spans
                )
            steps = [self._step(item, triggered=True) for item in triggers]
            node.steps[:0] = steps
            if any(step.sources for step in steps):
                self._refuse_cycles()

    # --- asking ---

    def target(self, name: str) -> StageNode:
        """Return the stage to build; the last one when *name* is empty [FROM-10]."""
        if not name:
            return self.stages[-1]
        node = self._by_name.get(name.lower())
        if node is None:
            labels = [stage.name for stage in self.stages if stage.name]
            guess = did_you_mean(name.lower(), labels)
            known = f"the file has {', '.join(labels)}" if labels else "give it one: FROM … AS NAME"
            hints = () if guess else (known,)
            raise UserError(f'target stage "{name}" could not be found{guess}', hints=hints)
        return node

    def nearest_stage(self, request: ImageRequest) -> str | None:
        """Return the stage that the name of an image is perhaps a misspelling of [IN-6]."""
        if len(self._by_name) > _MOST_GUESSED:
            return None
        name = request.reference.shortest
        return name if name in self._by_name else nearest(name, self._by_name)

    def reachable(self, target: StageNode) -> list[StageNode]:
        """Return the nodes that *target* needs and itself: images and contexts first, then by file order."""
        seen = {target}
        stack = [target]
        while stack:
            for node in stack.pop().needs():
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
        outside = [node for node in self._external.values() if node in seen]
        return outside + [node for node in self.stages if node in seen]

    def everything(self) -> list[StageNode]:
        """Return all nodes, in the same order."""
        return [*self._external.values(), *self.stages]

    def request(self, node: StageNode) -> ImageRequest | None:
        """Return the image whose config must be known before *node* can be lowered."""
        reference = getattr(node.origin, "reference", None)
        if not isinstance(reference, Reference):
            return None
        layout = node.origin.layout if isinstance(node.origin, ImageContext) else ""
        return ImageRequest(reference, node.platform or self._target_platform, layout)

    def _refuse_cycles(self) -> None:
        """Raise when a stage needs itself [FROM-13]."""
        done: set[StageNode] = set()
        for start in self.stages:
            path: dict[StageNode, None] = {}
            stack = [(start, iter(tuple(start.needs())))] if start not in done else []
            path[start] = None
            while stack:
                node, rest = stack[-1]
                for need in rest:
                    if need in path:
                        raise _cycle(list(path), need)
                    if need not in done:
                        path[need] = None
                        stack.append((need, iter(tuple(need.needs()))))
                        break
                else:
                    stack.pop()
                    path.pop(node, None)
                    done.add(node)


def _judged(
    policies: Policies, name: str, origin: NamedContext | RegistryImage, platform: Platform
) -> NamedContext | RegistryImage:
    from pybuild.frontend.lowering.policies import ruled_context  # most builds have no policies

    if not isinstance(origin, RegistryImage):
        return ruled_context(policies, origin, platform)
    context = ruled_context(policies, ImageContext(name, origin.reference), platform)
    if isinstance(context, ImageContext) and context.reference and not context.layout:
        return RegistryImage(context.reference)
    return context


def _valued(word: str) -> str:
    """Return a hint about variables of a FROM without a value."""
    name = word.strip("${}") or "NAME"
    return f"FROM knows ARGs before the first FROM alone: ARG {name}=image, or --build-arg {name}="


def _meant(name: str, written: str) -> tuple[str, ...]:
    """Return a hint about *name*, which is no reference of an image."""
    if name != written and (name.endswith(":") or "$" in written):
        variable = re.search(r"\$\{?(\w+)", written)
        return (_valued(variable[1] if variable else ""),)
    if "://" in name:
        return (f"write it without {name.partition('://')[0]}://",)
    if name.lower() != name:
        return (f"write it in lower case: {name.lower()}",)
    if "@" in name:
        return ("a digest is sha256: and 64 digits; pybuild imagetools inspect NAME shows it",)
    if name.startswith((".", "/")):
        return (f"for an archive: pybuild load -i {name}, and FROM the name that it prints",)
    return ()


def _cycle(path: list[StageNode], start: StageNode) -> UserError:
    members = path[path.index(start) :]
    spans = [
        step.instruction.span
        for node, following in zip(members, [*members[1:], start], strict=True)
        for step in node.steps
        if following in step.sources
    ]
    hint = "a stage can copy from others alone; what it has itself goes with RUN cp"
    message = f"circular dependency detected on stage: {start.label}"
    return UserError(message, spans=spans, hints=(hint,))


def _platform(
    text: str, scope: Mapping[str, str], escape: str, default: Platform
) -> Platform | None:
    if not text:
        return None
    unset: list[str] = []
    value = expand(text, scope, escape=escape, on_unset=unset.append)
    guesses = (did_you_mean(name, scope) for name in unset)
    guess = next(filter(None, guesses), "")
    if not value:
        raise UserError(f"empty platform value from expression {text}{guess}")
    try:
        return Platform.parse(value, default)
    except ValueError as error:
        hints = ("such as linux/amd64, linux/arm64 or linux/arm/v7",)
        message = f"failed to parse platform {text}: {error}{guess}"
        raise UserError(message, hints=hints) from error
