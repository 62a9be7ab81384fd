"""The protocols by which the solver has its work done.

The solver owns these protocols; the executor and the cache offer them. `Runner` must stay
serialisable in spirit: op in, snapshot names out, events on the side.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Protocol

from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.digest import Digest
from pybuild.model.events import Emit
from pybuild.model.named import NamedInputs
from pybuild.model.ops import Vertex
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Record, Result

__all__ = ["RUN_KEY", "Record", "RecordStore", "Runner"]

RUN_KEY: ContextVar[Digest | None] = ContextVar("RUN_KEY", default=None)
"""The key under which the result of `Runner.run` will be kept, while it runs; None where a run counts for itself."""


class Runner(Protocol):
    """Makes vertices happen for one build."""

    async def identify(self, vertex: Vertex) -> Digest | None:
        """Return the identity of a source right now (an image's manifest digest, a commit).

        None: it has no identity of its own (local sources), so only content-based keys apply.
        """
        ...

    async def content_digest(self, result: Result, selection: Selection) -> ContentDigest:
        """Digest what *selection* picks from *result*.

        Raises:
            UserError: a path without wildcard is not there [CP-4]; DeltaGone: as `run`.
        """
        ...

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        """Do the vertex's op on its inputs' results and return a committed result.

        Cancelling the task stops the step within a second and leaves nothing behind. The result
        is leased for the build.

        Raises:
            StepError: a process failed; UserError; EnvironmentFault.
            DeltaGone: a delta of *inputs* can be had no more, and what made it has to run again.
        """
        ...

    def reread(self, vertex: Vertex) -> Contents:
        """Return the contents that the run of *vertex*, just ended, read of inputs that others change.

        It may not be what was digested before: then the result belongs to another key.
        """
        ...


class RecordStore(Protocol):
    """Keeps records. Methods may block for milliseconds; the driver calls them in a thread."""

    def prepare(self) -> None:
        """Do now what the first write would have to do first; writes are to come. Never raises."""
        ...

    def load(self, key: Digest) -> Record | None:
        """Return the record if every delta it names is whole and now leased; else None."""
        ...

    def claim(self, key: Digest) -> bool:
        """Claim the making of a result, which one process on the store does at a time.

        Never blocks. It is ours until `release`, or until our process ends; False: another one is
        making it. A store that cannot tell lets everybody make it.
        """
        ...

    def release(self, key: Digest) -> None:
        """Let others make, or find, what was claimed."""
        ...

    def made(self, key: Digest) -> Record | None:
        """Return the record of what a build on this store made, as `load` does; no cache is asked."""
        ...

    def save(self, record: Record, named_inputs: NamedInputs | None = None) -> None:
        """Store; a record of the same key is replaced. Its deltas are already committed.

        What the key was made of is kept too, for as long as it may explain a miss.
        """
        ...

    def forget(self, delta: str, *, everywhere: bool) -> None:
        """Offer no result again that names a delta, which can be had no more.

        Args:
            everywhere: nor one that names another delta of the place that it was to come from.
        """
        ...

    def alias(self, key: Digest) -> Digest | None:
        """Return the content-based key that a definition-based key was last found to mean."""
        ...

    def save_alias(self, key: Digest, target: Digest) -> None: ...

    def seconds(self, vertex: Digest) -> float | None:
        """Return the duration of this vertex's last run, for critical-path order."""
        ...

    def save_seconds(self, vertex: Digest, seconds: float) -> None: ...
