"""The errors, by who can mend them.

    PybuildError
    ├── UserError            the Dockerfile, the context, the request        exit 1
    │   ├── UsageError       the command line or the configuration file      exit 2
    │   └── StepError        a RUN ended with a non-zero status              exit 1
    ├── EnvironmentFault     disk, kernel, registry, network                 exit 3
    │   ├── DamagedBlob      bytes that are not what they are stored under   exit 3
    │   └── DeltaGone        files of a stored result that nobody has        exit 3
    ├── InternalError        our bug                                         exit 4
    └── Cancelled            Ctrl-C, or the client went away                 exit 130 (128 + the signal)

An error is data, and never changes: several may wait for the same one. On its way up copies are made
of it, which say more. Only ``progress/render.py`` makes text of it.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False  # a command that is over in milliseconds loads this
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from pybuild.model.digest import Digest
    from pybuild.model.span import Span


class ExitCode:
    """The exit statuses of the process."""

    OK = 0
    BUILD_FAILURE = 1
    USAGE = 2
    ENVIRONMENT = 3
    INTERNAL = 4
    HUNG_UP = 129
    CANCELLED = 130
    TERMINATED = 143


class PybuildError(Exception):
    """Base of all; no attribute is set twice.

    Attributes:
        message: starts in lower case and names the value.
        hints: things to do.
        sources: lines of the files that *spans* name, where they are not simply on disk.
        peer: BuildKit's wording, for its clients and for people who search for it; empty where
            *message* is that.
        vertex: the digest of what failed, where its trees were kept.
        input: the number of the vertex's input that has not what is read of it; -1 for none.
    """

    exit_code = ExitCode.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        spans: Sequence[Span] = (),
        hints: Sequence[str] = (),
        sources: Mapping[str, Sequence[str]] | None = None,
        peer: str = "",
        vertex: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.spans = tuple(spans)
        self.hints = tuple(hints)
        self.sources = sources or {}
        self.peer = peer
        self.vertex = vertex
        self.input = -1

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            raise AttributeError(f"{name} of an error is set: make a copy of the error")
        super().__setattr__(name, value)

    def __str__(self) -> str:
        return self.message

    @property
    def line(self) -> int:
        """The line of the Dockerfile that it is about; 0 for none."""
        return self.spans[0].first_line if self.spans else 0

    def with_spans(self, spans: Sequence[Span]) -> Self:
        """Return a copy with the place in the Dockerfile; self where one nearer to the cause is known."""
        return self if self.spans else self.copy_with(spans=tuple(spans))

    def hinting(self, *hints: str) -> Self:
        """Return a copy that has *hints* too; self where there are none."""
        return self.copy_with(hints=(*self.hints, *hints)) if hints else self

    def saying(self, message: str) -> Self:
        """Return a copy with another message."""
        return self.copy_with(message=message)

    def showing(self, sources: Mapping[str, Sequence[str]]) -> Self:
        """Return a copy that has the lines of the files that it is about."""
        return self.copy_with(sources=sources)

    def copy_with(self, **attributes: object) -> Self:
        """Return a copy with other *attributes*, of the same kind, cause and origin."""
        copied = type(self).__new__(type(self), *self.args)
        copied.__dict__.update(self.__dict__, **attributes)
        copied.__cause__ = self.__cause__
        copied.__context__ = self.__context__
        copied.__suppress_context__ = self.__suppress_context__
        return copied.with_traceback(self.__traceback__)


class UserError(PybuildError):
    """The Dockerfile, the context or the request is wrong."""

    exit_code = ExitCode.BUILD_FAILURE


class SourceMoved(UserError):
    """A file of the client was another one when it was looked at again; to be read anew."""


class UsageError(UserError):
    """The command line or the configuration file is wrong."""

    exit_code = ExitCode.USAGE


class StepError(UserError):
    """A step's process did not succeed.

    Attributes:
        status: the exit code; 128 + n for signal n.
        log_tail: the last lines that it wrote, oldest first; *log* is their text.
        step: the step's name, as progress shows it; empty where nobody knows it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        log_tail: Sequence[str] = (),
        step: str = "",
        vertex: str = "",
        spans: Sequence[Span] = (),
        hints: Sequence[str] = (),
        sources: Mapping[str, Sequence[str]] | None = None,
        peer: str = "",
    ) -> None:
        super().__init__(
            message, spans=spans, hints=hints, sources=sources, peer=peer, vertex=vertex
        )
        self.status = status
        self.log_tail = tuple(log_tail)
        self.step = step

    @property
    def log(self) -> str:
        return "\n".join(self.log_tail)


class EnvironmentFault(PybuildError):
    """The machine, the network or another server failed us."""

    exit_code = ExitCode.ENVIRONMENT


class DamagedBlob(EnvironmentFault):
    """The store's bytes under a digest are others, or are gone."""

    def __init__(self, message: str, *, digest: Digest) -> None:
        super().__init__(message)
        self.digest = digest


class DeltaGone(EnvironmentFault):
    """The files of a delta that a stored result names can be had no more: what made it has to run.

    Attributes:
        delta: the name.
        everywhere: the place it came from is out of reach, so others of that place are as well.
    """

    def __init__(
        self, delta: str, message: str, *, hints: Sequence[str] = (), everywhere: bool = False
    ) -> None:
        super().__init__(message, hints=hints)
        self.delta = delta
        self.everywhere = everywhere


class InternalError(PybuildError):
    """An invariant of ours does not hold; worth a report."""

    exit_code = ExitCode.INTERNAL


class Cancelled(PybuildError):
    """The work was to stop; by another signal than Ctrl-C's it has a copy's `exit_code`."""

    exit_code = ExitCode.CANCELLED


class BlobMissing(KeyError):
    """The store does not hold the blob, or no longer: its bytes were damaged."""

    def __init__(self, digest: str, reason: str = "not in the store") -> None:
        self.digest = digest
        self.reason = reason

    def __str__(self) -> str:
        return f"blob {self.digest}: {self.reason}"


def unwrap(error: BaseException) -> BaseException:
    """Take the one error out of the exception groups that structured concurrency wraps it in.

    Errors of the machine that came unannounced are faults of the environment.
    """
    while isinstance(error, BaseExceptionGroup):
        members = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        ours = [e for e in members if isinstance(e, PybuildError)]  # pyright: ignore
        error = ours[0] if ours else members[0]  # pyright: ignore
    if isinstance(error, BlobMissing):
        hint = "build or pull again what it is part of: that mends the store"
        return EnvironmentFault(str(error), hints=[hint]).with_traceback(error.__traceback__)
    return _exhausted(error) or error  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


_EXHAUSTED = {
    errno.EMFILE: ("too many open files", "raise the limit on open files (ulimit -n)"),
    errno.ENFILE: (
        "too many open files in the system",
        "raise the system's limit (sysctl fs.file-max), or end what holds them",
    ),
    errno.ENOMEM: (
        "out of memory",
        "raise the limit on memory (ulimit -v, or that of the cgroup), or free some",
    ),
    errno.EAGAIN: (
        "cannot start a thread",
        "raise the limits on processes and memory (ulimit -u, ulimit -v)",
    ),
}


def _exhausted(error: BaseException) -> EnvironmentFault | None:
    """Return the fault for an error that came of something that ran out; None if that is not so."""
    at: BaseException | None = error
    seen: set[int] = set()  # what is raised once more may come to be its own cause
    while at is not None and _number(at) not in _EXHAUSTED:
        if id(at) in seen:
            return None
        seen.add(id(at))
        # Of ours, only the cause that was stated: they may be raised while another one is dealt with.
        at = at.__cause__ or (None if isinstance(at, PybuildError) else at.__context__)
    if at is None:
        return None
    message, hint = _EXHAUSTED[_number(at)]
    if not isinstance(error, PybuildError):
        fault = EnvironmentFault(message, hints=[hint])
    elif hint in error.hints:
        return None
    else:
        fault = EnvironmentFault(
            error.message, spans=error.spans, hints=[hint], sources=error.sources
        )
    fault.__cause__ = error
    return fault.with_traceback(error.__traceback__)


def _number(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError):
        return 0 if error.errno == errno.EAGAIN else error.errno or 0
    is_thread = isinstance(error, RuntimeError) and str(error) == "can't start new thread"
    return errno.EAGAIN if is_thread else 0
