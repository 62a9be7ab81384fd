"""A definition: the groups and targets of all files of one command, and what names on it stand for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import cast

from pybuild.bake.hcl.definitions import Definitions, Instance, VariableFacts
from pybuild.bake.hcl.values import Value, ValueProblem, to_text
from pybuild.bake.overrides import Override, overridden, parse_overrides
from pybuild.bake.target import FIELDS, Group, Target, read_field
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.suggest import nearest

DEFAULT = "default"
BLOCKS: Mapping[str, frozenset[str]] = {
    "group": frozenset(("description", "targets")),
    "target": frozenset((*FIELDS, "matrix", "name")),
}
_NAME = re.compile(r"[a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Definition:
    """Groups and targets by name, in the order of the files; *variables* are those of HCL and JSON.

    *parts* are the paths of files that were read because others name them.
    """

    groups: Mapping[str, Group] = field(default_factory=dict[str, Group])
    targets: Mapping[str, Target] = field(default_factory=dict[str, Target])
    variables: tuple[VariableFacts, ...] = ()
    parts: tuple[str, ...] = ()

    def over(self, base: Definition) -> Definition:
        """Return this definition laid over *base*; a group replaces one, a target is laid over one."""
        targets = dict(base.targets)
        for name, target in self.targets.items():
            targets[name] = target.over(targets[name]) if name in targets else target
        groups, variables = {**base.groups, **self.groups}, self.variables or base.variables
        return Definition(groups, targets, variables, self.parts or base.parts)

    # --- names ------------------------------------------------------------------------------------

    def names(self, pattern: str) -> list[str]:
        """Return the groups and targets that a word of the command line names.

        Raises:
            UserError: a pattern that nothing matches.
        """
        if not re.search(r"[*?\[\]]", pattern):
            return [clean_name(pattern)]
        matching = [name for name in (*self.groups, *self.targets) if matches(pattern, name)]
        if not matching:
            raise UserError(f'could not find any target matching "{pattern}"', hints=self._hints())
        return matching

    def targets_matching(self, pattern: str) -> list[str]:
        """Return the targets that the pattern of an override names.

        Raises:
            UserError: there is none.
        """
        if pattern in self.targets:
            return [pattern]
        matching = [name for name in self.targets if matches(pattern, name)]
        if not matching:
            raise UserError(
                f"could not find any target matching '{pattern}'", hints=self._hints(pattern)
            )
        return matching

    def _hints(self, name: str = "") -> list[str]:
        near = nearest(name, (*self.groups, *self.targets))
        if near:
            return [f"did you mean {near}?"]
        known = sorted(dict.fromkeys((*self.groups, *self.targets)))
        return [f"there is {', '.join(known)}"] if known else ["the files define no target"]

    def members(self, name: str) -> tuple[list[str], list[str]]:
        """Return the targets that a name stands for, and the groups on the way to them."""
        targets: dict[str, None] = {}
        groups: dict[str, None] = {}

        def add(one: str) -> None:
            if one not in self.groups:
                targets[one] = None
            elif one in groups:  # under way, or done: the target of that name, if there is one
                if one in self.targets:
                    targets[one] = None
            else:
                groups[one] = None
                for inner in self.groups[one].targets:
                    add(inner)

        add(name)
        return list(targets), list(groups)

    # --- targets ----------------------------------------------------------------------------------

    def target(self, name: str, overrides: Sequence[Override] = ()) -> Target:
        """Return a target with all that it inherits and is overridden with.

        Raises:
            UserError: there is none, or it inherits from one that is not there.
        """
        made = self._inherited(name, overrides, {})
        assert made is not None
        fields = {key: value for key, value in made.fields.items() if key != "inherits"}
        if fields.get("context") is None:
            fields["context"] = "."
        if not fields.get("dockerfile"):
            fields["dockerfile"] = "Dockerfile"
        return Target(name, fields)

    def _inherited(
        self, name: str, overrides: Sequence[Override], done: dict[str, Target | None]
    ) -> Target | None:
        """Return a target with all that it inherits; None for one that is under way."""
        if name in done:
            return done[name]
        if name not in self.targets:
            raise UserError(f"failed to find target {name}", hints=self._hints(name))
        done[name] = None
        own, made = self.targets[name], Target(name)
        for parent in own.texts("inherits"):
            under = self._inherited(parent, overrides, done)
            if under is not None:
                made = Target(name, under.fields).over(made)
        made = own.over(made)
        for override in overrides:
            if name in override.targets:
                made = overridden(made, override)
        done[name] = made = made.normal()
        return made

    def select(
        self,
        words: Iterable[str],
        flags: Sequence[str],
        environment: Callable[[str], str | None],
    ) -> Selected:
        """Return the targets that words name.

        Args:
            words: names and patterns of groups and targets.
            flags: values of ``--set``.
            environment: gives the values of arguments that these set without one.

        Raises:
            UserError: one names nothing, or targets read one another without end.
        """
        named = list(dict.fromkeys(name for word in words for name in self.names(word)))
        overrides = parse_overrides(flags, self.targets_matching, environment)
        targets: dict[str, Target] = {}
        groups: dict[str, Group] = {}
        for name in named:
            members, through = self.members(name)
            for member in members:
                targets[member] = self.target(member, overrides)
            groups |= {one: self.groups[one] for one in through}
        for name in named:
            if name != DEFAULT or DEFAULT not in groups:
                default = groups.get(DEFAULT, Group(DEFAULT, ()))
                groups[DEFAULT] = replace(default, targets=(*default.targets, name))
        if DEFAULT in groups:
            members = sorted(dict.fromkeys(groups[DEFAULT].targets))
            groups[DEFAULT] = replace(groups[DEFAULT], targets=tuple(members))
        for name in list(targets):
            self._link(name, targets, overrides, ())
        return Selected(groups, targets)

    def _link(
        self,
        name: str,
        targets: dict[str, Target],
        overrides: Sequence[Override],
        above: tuple[str, ...],
    ) -> None:
        """Add the targets that others read, and what those need to be allowed."""
        for other in targets[name].links.values():
            if other == name:
                raise UserError(f"target {other} cannot link to itself")
            if other in above:
                raise UserError(f"infinite loop from {name} to {other}")
            if other not in targets:
                made = self.target(other, overrides).changed("output", [{"type": "cacheonly"}])
                targets[other] = Target(other, made.fields, is_linked=True)
            self._link(other, targets, overrides, (*above, name))
            _check_platforms(targets[name], targets[other])
            granted = dict.fromkeys(
                [*targets[name].texts("entitlements"), *targets[other].texts("entitlements")]
            )
            if granted:
                targets[name] = targets[name].changed("entitlements", list(granted))


@dataclass(frozen=True, slots=True)
class Selected:
    """The targets of one command, those too that are only read by others, and its groups."""

    groups: Mapping[str, Group]
    targets: Mapping[str, Target]

    def only(self, names: Iterable[str]) -> Selected:
        """Return those of *names*, what they read, and the groups that are not empty then."""
        members = set(names)
        read = set(members)
        waiting = list(members)
        while waiting:
            links = set(self.targets[waiting.pop()].links.values()) - read
            read |= links
            waiting += links
        # Groups may have others for members, in any order.
        while more := {
            name
            for name, group in self.groups.items()
            if name not in members and not members.isdisjoint(group.targets)
        }:
            members |= more
        groups = {
            name: replace(group, targets=tuple(one for one in group.targets if one in members))
            for name, group in self.groups.items()
            if name in members
        }
        return Selected(groups, {name: self.targets[name] for name in self.targets if name in read})


def _check_platforms(target: Target, read: Target) -> None:
    own, others = target.texts("platforms"), read.texts("platforms")
    if len(own) > 1 and len(others) > 1 and not set(own) <= set(others):
        raise UserError(
            f"target {read.name} can't be used by {target.name} because its platforms "
            f"{others} do not have all of {own}"
        )


def matches(pattern: str, name: str) -> bool:
    """Whether a name, which has no slash in it, is one that a shell's pattern names."""
    return fnmatch.fnmatchcase(name, pattern.replace("[^", "[!"))


def clean_name(name: str) -> str:
    """Return the name of the target of a service: dots are not allowed in targets."""
    return name.replace(".", "_")


def check_name(name: str) -> None:
    """Refuse a name that no target may have.

    Raises:
        ValueProblem: says so.
    """
    if not _NAME.fullmatch(name):
        raise ValueProblem(
            f'invalid name "{name}": only "{_NAME.pattern}" are allowed',
            hints=["sanitize(name) makes one of any text"],
        )


def definition_of(scope: Definitions) -> Definition:
    """Return the groups and targets that HCL and JSON files define.

    Raises:
        ValueProblem: with the place of what is wrong.
    """
    scope.check()
    groups: dict[str, Group] = {}
    targets: dict[str, Target] = {}
    by_label: dict[str, list[str]] = {}
    for instance in scope.every():
        label = instance.block.labels[0]
        for name in (label, instance.name):
            try:
                check_name(name)
            except ValueProblem as problem:
                raise problem.with_spans([instance.block.span]) from problem
        if instance.block.type == "group":
            groups[instance.name] = _group(scope, instance)
            continue
        by_label.setdefault(label, []).append(instance.name)
        target = _target(scope, instance)
        before = targets.get(instance.name)
        targets[instance.name] = target if before is None else target.over(before)
    for label, names in by_label.items():
        made = list(dict.fromkeys(names))
        if made != [label]:  # the label of a matrix stands for all that it makes
            groups.setdefault(label, Group(label, tuple(made)))
    return Definition(groups, targets, tuple(scope.variables()))


def _group(scope: Definitions, instance: Instance) -> Group:
    values = _read(scope, instance, {"description": "text", "targets": "list"})
    names = cast("list[str]", values.get("targets") or [])
    return Group(instance.name, tuple(names), cast("str", values.get("description") or ""))


def _target(scope: Definitions, instance: Instance) -> Target:
    values = _read(scope, instance, FIELDS)
    return Target(instance.name, values)


def _read(scope: Definitions, instance: Instance, kinds: Mapping[str, str]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    allowed = BLOCKS[instance.block.type]
    for name, written in instance.block.body.fields.items():
        if name not in allowed:
            near = nearest(name, allowed)
            raise ValueProblem(
                f'unsupported argument: "{name}" is not expected in a {instance.block.type}',
                spans=[written.span],
                hints=[f"did you mean {near}?"] if near else [],
            )
        if name not in kinds:
            continue
        try:
            value = scope.value_of(instance, name)
            if instance.block.type == "group":
                values[name] = to_text(value) if kinds[name] == "text" else _names(value)
            else:
                values[name] = read_field(name, value)
        except ValueProblem as problem:
            if problem.spans:
                raise
            named = problem.saying(f"{name}: {problem.message}")
            raise named.with_spans([written.expression.span]) from problem
    return values


def _names(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise ValueProblem("list of string required")
    return [to_text(one) for one in value]
