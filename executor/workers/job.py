"""Jobs: calls of functions of the worker side, as values with typed arguments and a typed answer.

What a job calls is named, never imported here, since the modules of workers are theirs to load:

    if TYPE_CHECKING:
        from pybuild.executor.files import jobs
    else:
        jobs = WorkerModule("pybuild.executor.files.jobs")

    freed = await workers.call(job(jobs.remove, path))

Checkers see the function itself: its arguments are checked where the job is made, and the answer where
it is used. A test compares each name with the import beside it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from pybuild.model.border import Misfit, WorkerCall, packed, unpacked
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import InternalError

if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepExit

Args = ParamSpec("Args")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Job(Generic[Answer]):
    """A call of *function*, ``module:name``, which gives an *Answer*.

    Attributes:
        args, named: its arguments but for the first, a `WorkerCall`, as they cross to the worker.
    """

    function: str
    args: tuple[Any, ...]
    named: dict[str, Any]

    def request(self, *, stay: bool = False) -> tuple[object, ...]:
        """Return the message to a worker; one that is to *stay* waits for another afterwards."""
        return self.function, self.args, self.named, stay

    def answer(self, message: Any) -> Answer:
        """Return the answer that a worker gave as *message*.

        Raises:
            InternalError: it does not fit what this process knows.
        """
        try:
            answer: Answer = unpacked(message)
        except Misfit as error:
            raise InternalError(
                f"the answer of {self.function}: {error}",
                hints=("restart what was running when pybuild was installed anew",),
            ) from error
        return answer


def job(
    function: Callable[Concatenate[WorkerCall, Args], Answer],
    /,
    *args: Args.args,
    **named: Args.kwargs,
) -> Job[Answer]:
    """Return the call of *function* with these arguments.

    Raises:
        Misfit: one of them cannot go to another process.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    return Job(name, tuple(map(packed, args)), {key: packed(arg) for key, arg in named.items()})


class JobService(Protocol):
    """Has jobs done, as `Workers.call` says."""

    async def call(
        self,
        work: Job[Answer],
        /,
        *,
        fds: Sequence[int] = (),
        on_progress: Callable[[int], None] | None = None,
        stay: bool = False,
        writes: str = "",
    ) -> Answer: ...


class _Function:
    """The name of a function, in the places where a function has its name."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__ = module
        self.__qualname__ = name


class WorkerModule:
    """A module of the worker side: its attributes are the names of its functions."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> _Function:
        function = self.__dict__[name] = _Function(self._module, name)
        return function


@dataclass(slots=True)
class RunningJob:
    """A job that the zygote was told to start.

    Attributes:
        unsent: what is left of its request.
        gone: done when its process and namespaces are; fails when the zygote died.
        functions: those whose modules its zygote had imported when it was started.
    """

    id: str
    channel: socket.socket
    unsent: bytes | memoryview
    gone: asyncio.Future[StepExit]
    functions: frozenset[str] = frozenset()

    def send(self) -> None:
        """Send of the request what can be sent without waiting."""
        try:
            self.unsent = memoryview(self.unsent)[self.channel.send(self.unsent) :]
        except OSError:
            pass  # it is full, or nobody is there any more, which is met again
