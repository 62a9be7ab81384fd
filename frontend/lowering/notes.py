"""Comments about steps, as lowering heeds them: how old a result may be, and which files a step's key follows.

``# pybuild: max-age=7d`` above a RUN, COPY or ADD is about that step, above a FROM about all steps of its
stage; ``--max-age`` about all others. ``# pybuild: probe=URL`` above a RUN has it run again when the file
behind the URL is another one. Other builders read a comment, and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from pybuild.frontend.giturl import file_name, is_http
from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.stepnotes import MAX_AGE, PROBE, mentions, notes_above
from pybuild.model.amounts import parse_duration
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError, UserError
from pybuild.model.ops import HttpSource


@dataclass(frozen=True, slots=True)
class StepNotes:
    """The comments of one file, and the ages that an option says.

    Attributes:
        lines: of the file.
        ages: seconds by the names of stages, and by "" for all others, as `LowerOptions.max_ages`.
    """

    lines: Sequence[str]
    ages: Mapping[str, float]

    @classmethod
    def of(cls, dockerfile: ast.Dockerfile, ages: Mapping[str, float]) -> Self:
        """Return the notes of a file.

        Raises:
            UserError: there is no stage of a name in *ages*, or a probe is above no RUN.
        """
        stages = {stage.start.name for stage in dockerfile.stages}
        if unknown := sorted(set(ages) - stages - {""}):
            named = ", ".join(sorted(stages - {""})) or "none has a name"
            raise UserError(f'--max-age: no stage "{unknown[0]}"', hints=[f"stages: {named}"])
        if mentions(dockerfile.lines, PROBE):
            for stage in dockerfile.stages:
                for at in (stage.start, *stage.body):
                    notes = notes_above(dockerfile.lines, at.span.first_line)
                    if PROBE in notes and not isinstance(at, ast.Run):
                        message = f"# pybuild: {PROBE}={notes[PROBE][0]}: {at.keyword.upper()} has no probe"
                        raise UserError(message, spans=[at.span], hints=["write it above a RUN"])
        return cls(dockerfile.lines, ages)

    def age_of_stage(self, start: ast.Instruction, name: str) -> float | None:
        """Return the age for the steps of the stage that begins with *start*, if anything says one.

        Raises:
            UserError: a comment says no duration.
        """
        above = self.age_above(start)
        return self.ages.get(name, self.ages.get("")) if above is None else above

    def age_above(self, at: ast.Instruction) -> float | None:
        """Return the age that the comments above an instruction say.

        Raises:
            UserError: it is no duration.
        """
        values = notes_above(self.lines, at.span.first_line).get(MAX_AGE)
        if not values:
            return None
        try:
            return parse_duration(values[-1])
        except UsageError as error:
            message = f"# pybuild: {MAX_AGE}={values[-1]}: {error.message}"
            raise UserError(message, spans=[at.span]) from error

    def probes_above(self, at: ast.Run) -> Sequence[str]:
        """Return the URLs of the probes of a step as they are written, in their order."""
        return notes_above(self.lines, at.span.first_line).get(PROBE, [])


def probe_source(url: str) -> HttpSource:
    """Return the file of a probe.

    Raises:
        UserError: *url* is none of a file.
    """
    if not is_http(url):
        raise UserError(
            f"# pybuild: {PROBE}={url}: no http(s) URL",
            hints=["name a file that changes with what the step fetches, as an InRelease of apt's"],
        )
    return HttpSource(url=url, filename=file_name(url))
