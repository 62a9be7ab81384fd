"""The builder: makes builds, and answers about builds, files and the space that they take.

Commands are written against it once. This process is one (`pybuild.builds.localbuilder`), a build
server another (`pybuild.client.remotebuilder`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pybuild.model.dataclass import dataclass

if TYPE_CHECKING:
    from pybuild.builds.buildrecord import BuildRecord
    from pybuild.builds.namedbuild import NamedBuild
    from pybuild.builds.request import BuildRequest
    from pybuild.builds.result import BuildResult
    from pybuild.cache.space.prune import Policy
    from pybuild.cache.space.usage import UsageRecord
    from pybuild.explain.report import BuildReport
    from pybuild.frontend.question import FileAnswer, Question
    from pybuild.model.events import Emit


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderFacts:
    """A builder's description of itself; *platforms* are those it builds for, its own first."""

    version: str
    platforms: tuple[str, ...]
    labels: tuple[tuple[str, str], ...] = ()


class Builder(Protocol):
    """Does what commands ask for. Each method waits for its end; SIGTERM ends it as Ctrl-C does.

    Raises:
        PybuildError: the same from each builder; an `EnvironmentFault` where a server is lost.
    """

    def build(
        self,
        request: BuildRequest,
        emit: Emit,
        explained: Callable[[BuildReport], None] | None = None,
    ) -> BuildResult:
        """Make one build.

        Args:
            explained: called at the end with which steps ran, and why; also if the build fails.
        """
        ...

    def build_all(self, builds: Mapping[str, NamedBuild], emit: Emit) -> dict[str, BuildResult]:
        """Make several builds, some of which may read the results of others.

        Raises:
            UsageError: some do, and only this machine can do that.
        """
        ...

    def answer(self, question: Question, request: BuildRequest) -> FileAnswer:
        """Answer a question about the file of *request* [UI-6]."""
        ...

    def reports(self, *, everything: bool) -> list[BuildReport]:
        """Return the builds of the history, the latest first; only that one without *everything*."""
        ...

    def builds(self) -> list[BuildRecord]:
        """Return the builds of the history, the latest first, those that go on among them."""
        ...

    def replay(self, record: BuildRecord, emit: Emit) -> None:
        """Emit the events of a build of the history; of one that goes on, those so far."""
        ...

    def forget(self, records: Sequence[BuildRecord]) -> None:
        """Remove builds from the history, with their logs."""
        ...

    def usage(self, filters: Sequence[str]) -> list[UsageRecord]:
        """Return the things that take space."""
        ...

    def disk_bytes(self) -> int:
        """Return the size of the disk that a share of one is a share of.

        Raises:
            UsageError: only the server knows.
        """
        ...

    def prune(self, policy: Policy, freed: Callable[[UsageRecord], None]) -> int:
        """Free things that nothing needs; return the number of bytes.

        Args:
            freed: called with each thing when it is gone.
        """
        ...

    def facts(self) -> BuilderFacts:
        """Return the version of the builder, and the platforms that it builds for."""
        ...
