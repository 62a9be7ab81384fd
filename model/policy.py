"""Source policies: rules that allow, refuse or replace what a build is made of [POL-1..5].

A source is an identifier such as ``docker-image://docker.io/library/alpine:3.20`` and attributes, in
the words of LLB. Frontends and readers of definitions ask for each source that they come upon, so
that what was refused is never asked for, and what was replaced is seen nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Protocol

from pybuild.model import regex, wildcard
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform

_MOST_CHANGES = 20
_MOST_CHARS = 4096  # of an identifier: patterns can double it each time
MOST_LOOKS = 1_000_000  # of rules at sources: a few seconds, and far from what anybody means
ATTRIBUTES = {
    "docker-image": "image.",
    "docker-image+blob": "http.",
    "git": "git.",
    "http": "http.",
    "https": "http.",
    "local": "local.",
    "oci-layout": "oci.",
    "oci-layout+blob": "oci.",
}
"""The beginning of the attributes that mean something to a source, by its scheme."""
_FULL_URL = "git.fullurl"


class Action(StrEnum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    CONVERT = "CONVERT"


class MatchType(StrEnum):
    WILDCARD = "WILDCARD"
    EXACT = "EXACT"
    REGEX = "REGEX"


class Condition(StrEnum):
    EQUAL = "EQUAL"
    NOTEQUAL = "NOTEQUAL"
    MATCHES = "MATCHES"


@dataclass(frozen=True, slots=True)
class PolicySource:
    """The identifier and attributes of a source: a rule matches them and may replace them.

    Attributes:
        platform: the one that an image is taken for; None for what has none.
    """

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition on an attribute; one that is not there is empty."""

    key: str
    value: str
    condition: Condition = Condition.EQUAL

    def holds(self, attrs: Mapping[str, str]) -> bool:
        value = attrs.get(self.key, "")
        if self.condition is Condition.MATCHES:
            return regex.search(self.value, value)
        return (value == self.value) == (self.condition is Condition.EQUAL)


@dataclass(frozen=True, slots=True)
class Selector:
    """Picks sources: by the very identifier, or what it means as a pattern."""

    identifier: str
    match_type: MatchType = MatchType.WILDCARD
    constraints: tuple[Constraint, ...] = ()

    def picks(self, source: PolicySource) -> bool:
        if not all(constraint.holds(source.attrs) for constraint in self.constraints):
            return False
        identifier = source.identifier
        if identifier == self.identifier:
            return True
        match self.match_type:
            case MatchType.EXACT:
                return False
            case MatchType.WILDCARD:
                return wildcard.groups(self.identifier, identifier) is not None
            case MatchType.REGEX:
                return regex.search(self.identifier, identifier)

    def written(self, identifier: str, template: str) -> str:
        """Return *template* with what the pattern's groups matched in *identifier*."""
        match self.match_type:
            case MatchType.EXACT:
                return template
            case MatchType.WILDCARD:
                groups = wildcard.groups(self.identifier, identifier)
                return identifier if groups is None else wildcard.expand(template, groups)
            case MatchType.REGEX:
                return regex.replace(self.identifier, identifier, template)


@dataclass(frozen=True, slots=True)
class Update:
    """The replacement of a source; an identifier that is empty is that of the selector."""

    identifier: str = ""
    attrs: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


@dataclass(frozen=True, slots=True)
class Rule:
    action: Action
    selector: Selector
    updates: Update | None = None

    def convert(self, source: PolicySource) -> PolicySource:
        if self.updates is None:
            raise UserError(
                f"source policy: {self.selector.identifier}: missing destination for convert rule",
                hints=("say in updates what becomes of it",),
            )
        template = self.updates.identifier or self.selector.identifier
        identifier = self.selector.written(source.identifier, template[:_MOST_CHARS])
        if max(len(template), len(identifier)) > _MOST_CHARS:
            raise UserError(f"source policy: an identifier of more than {_MOST_CHARS} characters")
        identifier = identifier or source.identifier
        attrs = dict(source.attrs)
        if identifier != source.identifier:
            # The whole URL of a repository stands in an attribute, too, and wins there: who
            # replaces what people read means what is fetched.
            attrs.pop(_FULL_URL, None)
            attrs = _of_kind(identifier, attrs)
        return replace(source, identifier=identifier, attrs={**attrs, **self.updates.attrs})


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in order: the last that allows or denies decides, one that changes something at once.

    Attributes:
        lock: the name of the lock file that they were made from; empty for others.
    """

    rules: tuple[Rule, ...]
    lock: str = ""

    def judge(self, source: PolicySource) -> PolicySource:
        """Return the source that takes the place of *source*, or itself.

        Raises:
            UserError: it is refused.
        """
        denied = False
        for rule in self.rules:
            if not rule.selector.picks(source):
                continue
            if rule.action is Action.CONVERT:
                changed = rule.convert(source)
                if changed != source:
                    return changed
            else:
                denied = rule.action is Action.DENY
        if denied and self.lock:
            raise UserError(
                f'source "{source.identifier}" is not in {self.lock}, or is another one there',
                hints=["pybuild lock writes it anew; see what it says before you keep it"],
            )
        if denied:
            raise UserError(f'source "{source.identifier}" denied by policy')
        return source


class Judge(Protocol):
    """Decides about sources that all rules let pass."""

    def judge(self, source: PolicySource) -> PolicySource:
        """Return the source that takes the place of *source*, or itself.

        Raises:
            Undecided: there is no verdict yet. UserError: it is refused.
        """
        ...


class Undecided(Exception):
    """The caller has to get verdicts about *sources*, all at once, and begin again."""

    def __init__(self, *sources: PolicySource) -> None:
        super().__init__(", ".join(source.identifier for source in sources))
        self.sources = tuple(dict.fromkeys(sources))


class UndecidedSources:
    """Gathers the sources that have no verdict yet, so that nobody waits for one after the other."""

    def __init__(self) -> None:
        self._sources: list[PolicySource] = []

    def __enter__(self) -> None:
        """Do what may raise `Undecided`, which is kept for `finish`."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Undecided):
            return False
        self._sources += error.sources
        return True

    def finish(self) -> None:
        """Raise `Undecided` with all of them, if there are any."""
        if self._sources:
            raise Undecided(*self._sources)


@dataclass(frozen=True, slots=True)
class Policies:
    """Those of a request and of what it is part of; each of them has to agree.

    Attributes:
        judge: has the last word.
    """

    all: tuple[Policy, ...] = ()
    judge: Judge | None = None
    _looks: list[int] = field(default_factory=lambda: [0], compare=False, hash=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.all) or self.judge is not None

    def __add__(self, others: Policies) -> Policies:
        return Policies(self.all + others.all, self.judge or others.judge)

    def apply(self, source: PolicySource) -> PolicySource:
        """Return the source to use instead of *source*; most often itself.

        Raises:
            UserError: a policy refuses it, or replacements have no end.
            Undecided: there is no verdict yet.
        """
        first = source
        for _ in range(_MOST_CHANGES + 1):
            before = source
            for policy in self.all:
                self._looks[0] += len(policy.rules)
                if self._looks[0] > MOST_LOOKS:
                    raise UserError("source policies: too many rules for so many sources")
                source = policy.judge(source)
                if source != before:
                    break
            if source == before and self.judge is not None:
                source = self.judge.judge(source)
            if source == before:
                return source
        raise UserError(f'source "{first.identifier}": too many mutations by source policies')


def _of_kind(identifier: str, attrs: Mapping[str, str]) -> dict[str, str]:
    """Leave out what means nothing to a source of another kind."""
    prefix = ATTRIBUTES.get(identifier.partition("://")[0], "")
    return {name: value for name, value in attrs.items() if name.startswith(prefix)}
