"""The interface of a workload: prepared once, then each builder does it in turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from benchmarks.builder import Builder
from benchmarks.site import Site


class Workload(ABC):
    """One line of the table. The class's docstring is the line's explanation.

    Attributes:
        name: as it is asked for.
        reach, dream: our seconds over BuildKit's; what is aimed at.
        skips: why a builder cannot do it, by its name.
    """

    name: ClassVar[str]
    reach: ClassVar[float | None] = None
    dream: ClassVar[float | None] = None
    skips: ClassVar[dict[str, str]] = {}

    def __init__(self, site: Site, size: float = 1.0) -> None:
        self.site = site
        self.size = size

    def scaled(self, number: int) -> int:
        """Return so many, or fewer where the workload is only tried out."""
        return max(2, int(number * self.size))

    def prepare(self) -> None:  # noqa: B027  many need nothing of it
        """Make what all builders use; not measured."""

    def warm(self, builder: Builder) -> None:
        """Do what comes before the first measured time; not measured."""
        self.before(builder, 0)
        self.run(builder)

    def before(self, builder: Builder, turn: int) -> None:  # noqa: B027  neither of this
        """Do what comes before each measured time; not measured."""

    @abstractmethod
    def run(self, builder: Builder) -> None:
        """Do the work that is measured."""

    def layer_bytes(self, builder: Builder) -> int:
        """Return the size of the layers that *builder* made last; 0 where they are not compared.

        One whose layers are more than 10 % larger than another's has not won.
        """
        return 0
