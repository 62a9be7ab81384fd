"""Definitions: the frontend's options for one, and the paths of directories that one reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.model.ops import Copy, ExecOp, FileOp, LocalSource, Vertex, walk

if TYPE_CHECKING:
    from pybuild.builds.request import DefinitionRequest
    from pybuild.frontend.lowering.contexts import VertexContext
    from pybuild.model.platform import Platform


class DefinitionInputs(Protocol):
    """The surroundings of a Dockerfile that its definition depends on."""

    @property
    def context(self) -> Vertex | None:
        """The vertex of a build context that is no directory of the client."""
        ...

    @property
    def contexts(self) -> Mapping[str, str]:
        """The named contexts as written; a directory of the client is any path."""
        ...

    @property
    def context_trees(self) -> Mapping[str, VertexContext]:
        """The named contexts that are vertices already."""
        ...

    @property
    def excludes(self) -> Mapping[str, tuple[str, ...]]:
        """By local source, the patterns of its ignore file."""
        ...


def lower_options(
    request: DefinitionRequest, inputs: DefinitionInputs, platform: Platform, here: Platform
) -> LowerOptions:
    """Return the part of *request* that decides the definition, for one platform.

    Args:
        here: the platform of this machine.
    """
    return LowerOptions(
        target=request.target,
        build_args=request.build_args,
        target_platform=platform,
        build_platform=here,
        platform_explicit=bool(request.platforms),
        named_contexts=inputs.contexts,
        context_trees=inputs.context_trees,
        no_cache=request.no_cache,
        no_cache_filter=request.no_cache_filter,
        max_ages=request.max_ages,
        labels=request.labels,
        steps=request.steps,
        volumes=request.volumes,
        local_excludes=inputs.excludes,
        context=inputs.context,
        multi_platform=request.multi_platform,
        any_frontend=request.any_frontend,
        policies=request.policies,
    )


def local_reads(*targets: Vertex) -> Iterator[tuple[LocalSource, str]]:
    """Yield each client's directory with a path that a copy or a mount names in it, wildcards included."""
    for vertex in walk(*targets):
        match vertex.op:
            case FileOp(actions=actions):
                paths = [(a.input, a.source) for a in actions if isinstance(a, Copy)]
            case ExecOp(mounts=mounts):
                paths = [(m.input, m.selector) for m in mounts if m.input is not None]
            case _:
                continue
        for index, path in paths:
            source = vertex.inputs[index].op
            if isinstance(source, LocalSource):
                yield source, path
