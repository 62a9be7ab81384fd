"""A build check, and the choice of them: ``# check=`` and its like above one instruction [DIR-7, DIR-8]."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.text import boolean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """A build check.

    Attributes:
        name: as in ``# check=skip=…``.
        description: why it exists, in one sentence.
        message: makes the text of a finding of the values at hand.
        experimental: runs only where ``# check=experimental=…`` asks for it.
    """

    name: str
    description: str
    message: Callable[..., str]
    experimental: bool = False

    @property
    def url(self) -> str:
        """The way to the page that explains the rule, which every install has."""
        return f"pybuild lint --explain {self.name}"


# The name of the build arg that replaces the directive.
BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"

_COMMENT = re.compile(r"check[\t ]*=[\t ]*(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """``skip=RuleA,RuleB;error=true;experimental=RuleC``; names count letter by letter.

    Attributes:
        skip_all, experimental_all: the word ``all`` stood in the place of names. Experimental
            rules are switched on, never off, so *skip* says nothing about them.
        error: findings make the build fail.
    """

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> CheckOptions:
        """Read the value of the directive.

        Raises:
            UserError: an option is not known or has no valid value.
        """
        names: dict[str, frozenset[str]] = {"skip": frozenset(), "experimental": frozenset()}
        error = False
        for part in text.strip().split(";", 2) if text.strip() else ():
            key, equals, value = part.partition("=")
            key, value = key.strip(), value.strip()
            if equals and key in names:
                names[key] = frozenset(item.strip() for item in value.split(","))
            elif equals and key == "error" and (fails := boolean(value)) is not None:
                error = fails
            elif equals and key == "error":
                problem = f'failed to parse check option "{part}": neither true nor false'
                raise UserError(f"failed to parse check options: {problem}")
            else:
                named = key if equals else part
                raise UserError(f'failed to parse check options: invalid check option "{named}"')
        return cls(
            skip=names["skip"],
            skip_all=names["skip"] == frozenset(("all",)),
            experimental=names["experimental"],
            experimental_all=names["experimental"] == frozenset(("all",)),
            error=error,
        )

    @classmethod
    def of_comments(cls, comments: Iterable[str]) -> CheckOptions | None:
        """Return the options in the comments above an instruction; the first comment that has any counts.

        The options end at the first space; what follows is a reason for people. A comment that
        cannot be read is one that only looks alike.
        """
        for line in comments:
            match = _COMMENT.fullmatch(line)
            if match is None:
                continue
            try:
                return cls.parse(match[1].partition(" ")[0])
            except UserError:
                return None
        return None

    def allows(self, rule: Rule) -> bool:
        """Return whether *rule* runs."""
        if rule.experimental:
            return self.experimental_all or rule.name in self.experimental
        return self.allows_name(rule.name)

    def allows_name(self, name: str) -> bool:
        """Return whether nobody skips what is called *name*."""
        return not self.skip_all and name not in self.skip

    def merged(self, other: CheckOptions) -> CheckOptions:
        """Return these options with *other*'s added."""
        return CheckOptions(
            skip=self.skip | other.skip,
            skip_all=self.skip_all or other.skip_all,
            experimental=self.experimental | other.experimental,
            experimental_all=self.experimental_all or other.experimental_all,
            error=self.error,
        )
