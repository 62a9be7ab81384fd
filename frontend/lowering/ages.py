"""How old the stored result of a step may be: an option says it, or a comment above an instruction.

``# pybuild: max-age=7d`` above a RUN, COPY or ADD is about that step, above a FROM about all steps of its
stage; ``--max-age`` about all others. Other builders read a comment, and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.stepnotes import MAX_AGE, notes_above
from pybuild.model.amounts import parse_duration
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError, UserError


@dataclass(frozen=True, slots=True)
class StepAges:
    """The ages of one file, in seconds.

    Attributes:
        lines: of the file.
        given: by the names of stages, and by "" for all others, as `LowerOptions.max_ages` has them.
    """

    lines: Sequence[str]
    given: Mapping[str, float]

    @classmethod
    def of(cls, dockerfile: ast.Dockerfile, given: Mapping[str, float]) -> Self:
        """Return the ages of a file.

        Raises:
            UserError: there is no stage of a name in *given*.
        """
        stages = {stage.start.name for stage in dockerfile.stages}
        if unknown := sorted(set(given) - stages - {""}):
            named = ", ".join(sorted(stages - {""})) or "none has a name"
            raise UserError(f'--max-age: no stage "{unknown[0]}"', hints=[f"stages: {named}"])
        return cls(dockerfile.lines, given)

    def of_stage(self, start: ast.Instruction, name: str) -> float | None:
        """Return the age for the steps of the stage that begins with *start*, if anything says one.

        Raises:
            UserError: a comment says no duration.
        """
        above = self.above(start)
        return self.given.get(name, self.given.get("")) if above is None else above

    def above(self, at: ast.Instruction) -> float | None:
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
