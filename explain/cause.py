"""From a vertex that had to run to the reason: a candidate, a difference, a hint where it comes from."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.explain.difference import Difference, FindListing, differences
from pybuild.explain.report import Miss, Reason
from pybuild.frontend.syntax.ast import Arg, Dockerfile, Env
from pybuild.model.dataclass import dataclass
from pybuild.model.files import as_git_has_it
from pybuild.model.jsontext import as_list, as_object
from pybuild.model.named import KnownInputs, Listing
from pybuild.model.patterns import PatternMatcher

if TYPE_CHECKING:
    from pybuild.explain.nearest import Neighbours
    from pybuild.model.ops import Vertex
    from pybuild.model.snapshot import LocalTree
    from pybuild.solver.messages import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The files and time of a build, to find where a difference comes from.

    Attributes:
        files: the ignore files (and others) that were read, by path.
        started: when the build began; what was first made later is its own.
    """

    dockerfile: Dockerfile | None = None
    trees: Mapping[str, LocalTree]
    files: Mapping[str, bytes | None]
    started: float


class Explainer:
    """Tells why the vertices of one build had to run.

    Args:
        known: all that is or was stored, here and in imported caches, but not by this build.
        names: of all vertices of the build.
        find: gives the files of a content.
    """

    def __init__(
        self,
        known: Iterable[KnownInputs],
        names: Iterable[str],
        find: FindListing,
        around: Surroundings,
    ) -> None:
        self._known, self._names = known, names
        self._find = find
        self._around = around
        self._setters = _setters(around.dockerfile)

    @cached_property
    def _neighbours(self) -> Neighbours:
        from pybuild.explain.nearest import Neighbours  # not for steps that are to run

        return Neighbours(self._known, self._names)

    def explain(self, vertex: Vertex, run: Run) -> Miss:
        """Return why *vertex* had to run."""
        if run.fresh:
            return Miss(reason=Reason.IGNORED)
        parts = dict(run.named_inputs.parts)
        same = self._neighbours.same(run.key)
        if same is not None:
            return Miss(reason=Reason.EVICTED, nearest=same.name, place=same.place)
        nearest = self._neighbours.nearest(vertex.meta.name, parts)
        if nearest is None:
            return Miss(reason=Reason.NEW)

        def listing(digest: str) -> Listing | None:
            # What did not come to be stored is only known here.
            own = run.named_inputs.listings.get(digest)
            return self._find(digest) if own is None else own

        changes = [
            self._located(one, vertex, nearest)
            for one in differences(nearest.parts, parts, listing)
        ]
        changes.sort(key=_comes_last)
        reason = Reason.CHANGED if changes else Reason.UNEXPLAINED
        missed = Miss(
            reason=reason, nearest=nearest.name, place=nearest.place, differences=tuple(changes)
        )
        return missed.cut()

    def _located(self, one: Difference, vertex: Vertex, nearest: KnownInputs) -> Difference:
        """Add the place of a difference, as the surroundings show it."""
        kind, _, what = one.field.partition(".")
        if kind == "env" and what != "order":
            return self._declared(one, what, vertex)
        match one.field:
            case "file.removed":
                return _now_ignored(one, self._around)
            case "file.added":
                return _once_ignored(one, nearest)
            case "file.mode":
                return _mode_hint(one)
            case _:
                return one

    def _declared(self, one: Difference, name: str, vertex: Vertex) -> Difference:
        """Add the instruction that sets the variable; it shows whether that is an ARG or an ENV."""
        before = min((span.first_line for span in vertex.meta.spans), default=1 << 30)
        setters = self._setters.get(name, [])
        # Its own stage comes last, those that it may be based on before.
        at = bisect_left(setters, before, key=_line_of)
        if not at:
            return one
        last = setters[at - 1]
        place = f"{last.span.file}:{last.span.first_line}"
        field = f"arg.{name}" if isinstance(last, Arg) else one.field
        return replace(one, field=field, note=place)


def _setters(dockerfile: Dockerfile | None) -> dict[str, list[Arg | Env]]:
    """Return the instructions that set each variable in a stage, from the top."""
    setters: dict[str, list[Arg | Env]] = {}
    for stage in () if dockerfile is None else dockerfile.stages:
        for instruction in stage.body:
            if isinstance(instruction, Arg | Env):
                for name in _names(instruction):
                    setters.setdefault(name, []).append(instruction)
    return setters


def _line_of(setter: Arg | Env) -> int:
    return setter.span.first_line


def _comes_last(difference: Difference) -> bool:
    # Where files come or go because of an ignore file, that file differs too, if it is copied.
    return difference.field == "file.content" and difference.path.endswith(".dockerignore")


def _names(instruction: Arg | Env) -> list[str]:
    if isinstance(instruction, Env):
        return [pair.key for pair in instruction.pairs]
    return [item.name for item in instruction.items]


def _now_ignored(one: Difference, around: Surroundings) -> Difference:
    from pybuild.executor.trees.local import hidden_by

    for tree in around.trees.values():
        pattern = hidden_by(tree, one.path)
        if pattern is not None:
            note = _ignore_line(pattern, around.files)
            return replace(one, field="file.ignored", now="ignored", note=note)
    return one


def _ignore_line(pattern: str, files: Mapping[str, bytes | None]) -> str:
    from pybuild.executor.trees.local import line_of

    for path, data in files.items():
        if path.endswith(".dockerignore") and data is not None:
            line = line_of(data, pattern)
            if line is not None:
                return f'{os.path.basename(path)} line {line} ("{pattern}")'
    return f'the ignore file ("{pattern}")'


def _once_ignored(one: Difference, nearest: KnownInputs) -> Difference:
    for source in as_list(nearest.parts.get("inputs")):
        patterns = [str(pattern) for pattern in as_list(as_object(source).get("exclude"))]
        try:
            if patterns and PatternMatcher(patterns).matches(one.path):
                note = "no ignore file hides it now"
                return replace(one, field="file.ignored", was="ignored", note=note)
        except ValueError:
            continue
    return one


def _mode_hint(one: Difference) -> Difference:
    try:
        was, now = int(one.was or "", 8), int(one.now or "", 8)
    except ValueError:
        return one
    if as_git_has_it(was) == as_git_has_it(now):
        return replace(one, note="git keeps no such bits; with --modes=git they do not count")
    return one
