"""Advice: warnings of ours about what BuildKit builds in silence.

They are no build checks, which are BuildKit's own and of which its clients are told: advice never
makes a build fail and stays in this process. Each has a page, and ``# check=skip=NAME`` silences it.
"""

from __future__ import annotations

from collections.abc import Callable

from pybuild.model.dataclass import dataclass
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Advice:
    """A kind of advice.

    Attributes:
        message: makes its text, cause and way out on one line, of the values at hand.
    """

    name: str
    message: Callable[..., str]

    @property
    def url(self) -> str:
        """The command that shows its page."""
        return f"pybuild lint --explain {self.name}"

    def warning(self, *values: str, spans: tuple[Span, ...] = ()) -> BuildWarning:
        return BuildWarning(
            message=self.message(*values), rule=self.name, url=self.url, spans=spans, at_once=True
        )


UNSET_IN_RUN = Advice(name="UnsetInRun", message="${0} has no value in this RUN: {1}".format)
EXEC_FORM_QUOTES = Advice(
    name="ExecFormQuotes",
    message="{0} is no JSON, so a shell gets the brackets: write {1}".format,
)
COPIED_NOTHING = Advice(name="CopiedNothing", message="nothing matches {0}: {1}".format)
COPIED_OVER = Advice(
    name="CopiedOver",
    message="{0} were all copied to the one file {1}: end it with / to make it a directory".format,
)
UNKNOWN_OWNER = Advice(
    name="UnknownOwner",
    message="the image knows no {0} {1}, root is the owner: make it before, or give a number".format,
)
LARGE_CONTEXT = Advice(
    name="LargeContext",
    message=(
        "{0} of the context were copied, most of it {1}: what is not needed goes into .dockerignore,"
        " as a line {2}"
    ).format,
)

ADVICE = {
    advice.name: advice
    for advice in (
        UNSET_IN_RUN,
        EXEC_FORM_QUOTES,
        COPIED_NOTHING,
        COPIED_OVER,
        UNKNOWN_OWNER,
        LARGE_CONTEXT,
    )
}
