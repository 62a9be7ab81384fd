"""Collects what the checks find, under the file's ``# check=`` options [DIR-7, DIR-8]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pybuild.frontend.lint.rules import Rule
from pybuild.model.errors import UserError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """``skip=RuleA,RuleB;error=true``; *skip_all* is ``skip=all``."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> CheckOptions:
        """Read the value of the directive.

        Raises:
            UserError: an option is not known or has no valid value.
        """
        skip: frozenset[str] = frozenset()
        skip_all = error = False
        for part in filter(None, (part.strip() for part in text.split(";"))):
            key, equals, value = (item.strip() for item in part.partition("="))
            match key.lower():
                case "skip" if equals:
                    skip_all = value.lower() == "all"
                    skip = frozenset(item.strip().lower() for item in value.split(","))
                case "error" if value.lower() in ("true", "false", "1", "0"):
                    error = value.lower() in ("true", "1")
                case "experimental" if equals:
                    pass  # no experimental rule exists here yet
                case _:
                    raise UserError(f'invalid check option "{part}"')
        return cls(skip, skip_all, error)

    def skips(self, rule: Rule) -> bool:
        return self.skip_all or rule.value.lower() in self.skip


class Report:
    """The warnings of one lowering, in the order they were found."""

    def __init__(self, options: CheckOptions) -> None:
        self._options = options
        self._found: dict[tuple[str, str, tuple[Span, ...]], BuildWarning] = {}
        self._rules: set[str] = set()

    def add(
        self, rule: Rule, *values: str, spans: Sequence[Span], comments: Iterable[str] = ()
    ) -> None:
        """Note a finding, unless the file or the comment above the instruction skips its rule."""
        if self._options.skips(rule) or any(
            options.skips(rule) for options in _comment_options(comments)
        ):
            return
        self._rules.add(rule.value)
        message = rule.message(*values)
        key = (rule.value, message, tuple(spans))
        self._found[key] = BuildWarning(message=message, rule=rule.value, spans=tuple(spans))

    def note(self, message: str) -> None:
        """Add a warning that is no build check."""
        self._found["", message, ()] = BuildWarning(message=message)

    @property
    def warnings(self) -> tuple[BuildWarning, ...]:
        return tuple(self._found.values())

    def finish(self) -> None:
        """Fail where the file asks for it.

        Raises:
            UserError: ``error=true`` and something was found.
        """
        if self._options.error and self._rules:
            spans = [span for warning in self._found.values() for span in warning.spans]
            raise UserError(
                "lint violation found for rules: " + ", ".join(sorted(self._rules)), spans=spans
            )


def _comment_options(comments: Iterable[str]) -> Iterable[CheckOptions]:
    for line in comments:
        name, equals, value = line.partition("=")
        if equals and name.strip().lower() == "check":
            try:
                yield CheckOptions.parse(value.partition(" // ")[0])
            except UserError:
                continue  # an ordinary comment that happens to look like one
