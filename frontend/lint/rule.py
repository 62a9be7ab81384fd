"""The record of a build check: its name, and the page that explains it."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.model.dataclass import dataclass


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
        """The page that explains the rule, relative to the root of the repository."""
        return f"docs/lint/{self.name}.md"
