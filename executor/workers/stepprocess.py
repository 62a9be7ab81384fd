"""A step's process, as it is heard: its output, its messages and the descriptors that it hands over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild.executor.workers.attending import call_beside
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.executor.workers.launch import error_of
from pybuild.executor.workers.process import ZygoteProcess
from pybuild.executor.zygote.wire import RECORDER_FAILED
from pybuild.model.errors import EnvironmentFault, InternalError

if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepExit
    from pybuild.executor.workers.socketservice import SocketService
    from pybuild.executor.zygote import sealing, socketcalls
else:
    sealing = WorkerModule("pybuild.executor.zygote.sealing")
    socketcalls = WorkerModule("pybuild.executor.zygote.socketcalls")

_DRAIN_SECONDS = 1.0

OnOutput = Callable[[str, bytes], None]
StandardStreams = tuple[int, int, int]
"""Standard input, output and error."""


class StepMessages:
    """The messages of a step's process while it is set up, and what it hands over to be kept for it.

    Attributes:
        descriptors: that were handed over; ours to close.
    """

    def __init__(
        self, zygote: ZygoteProcess, on_output: OnOutput, on_ready: Callable[[], None] | None
    ) -> None:
        self.descriptors: list[int] = []
        self._zygote = zygote
        self._on_output = on_output
        self._on_ready = on_ready
        self._messages: list[Sequence[Any]] = []
        self._warnings: list[str] = []
        self._services: list[SocketService] = []

    def take(self, message: Sequence[Any]) -> bool:
        """Take a message; False: there may be more."""
        if message[0] == "warning":
            self._warnings.append(message[1])
            self._on_output("stderr", f"warning: {message[1]}\n".encode())
            return False
        self._messages.append(message)
        if message[0] == "ready":
            if self._on_ready is not None:
                self._on_ready()
            _compare_descriptors(message[1:], self.descriptors)
            if "listener" in message:
                from pybuild.executor.workers.socketservice import SocketService

                answer = partial(call_beside, self._zygote, job(socketcalls.answer_all))
                self._services.append(SocketService(self.descriptors.pop(0), answer))
        return False

    async def seal(self) -> None:
        """Have the tree sealed that the step wrote, where it handed over descriptors for that."""
        if self.descriptors:
            await call_beside(self._zygote, job(sealing.seal), *self.descriptors)

    async def close(self) -> None:
        """Close what was handed over."""
        for fd in self.descriptors:
            os.close(fd)
        for service in self._services:
            await service.close()

    def check(self, ended: StepExit) -> StepExit:
        """Return the end of a step that was set up, with the warnings of that.

        Raises:
            UserError, EnvironmentFault, InternalError: it was not, or not watched to its end.
        """
        if not self._messages:
            raise EnvironmentFault(
                f"the step's process ended while it was set up (status {ended.status})"
                + self._zygote.last_words()
            )
        for message in self._messages:
            if message[0] == "fault":
                raise error_of(message)
        if ended.status == RECORDER_FAILED:
            raise InternalError("the recorder of owners failed" + self._zygote.last_words())
        return ended._replace(warnings=tuple(self._warnings))


class StepStreams:
    """The pipes of a step's output; none where it has streams of its caller's."""

    def __init__(self, on_output: OnOutput) -> None:
        self._on_output = on_output
        self._streams: list[_Stream] = []

    @property
    def ended(self) -> list[asyncio.Future[None]]:
        """One future a pipe, done at its end, or with the error of who takes its output."""
        return [stream.ended for stream in self._streams]

    @contextmanager
    def handed(self, stdio: StandardStreams | None) -> Generator[Sequence[int]]:
        """Yield the descriptors that a step is begun with; ends of pipes are the step's alone then."""
        if stdio is not None:
            yield stdio[1], stdio[2], stdio[0]
            return
        write_ends: list[int] = []
        try:
            for name in ("stdout", "stderr"):
                read_end, write_end = os.pipe()
                write_ends.append(write_end)
                self._streams.append(_Stream(name, read_end, self._on_output))
            yield write_ends
        finally:
            for fd in write_ends:
                os.close(fd)

    async def drain(self) -> None:
        """Wait until all was handed on, or for a second: whoever inherited a pipe may keep it open.

        Raises:
            Exception: the taker's.
        """
        if not self._streams:
            return
        await asyncio.wait(self.ended, timeout=_DRAIN_SECONDS)
        for future in self.ended:
            if future.done():
                future.result()

    def close(self) -> None:
        """Close our ends; idempotent."""
        for stream in self._streams:
            stream.close()


class _Stream:
    """One of a step's output pipes, read as it comes."""

    def __init__(self, name: str, fd: int, on_output: OnOutput) -> None:
        self._name = name
        self._fd = fd
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
            if data:
                self._on_output(self._name, data)
                return
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001 - the caller's callback; `StepStreams.drain` raises it
            self.ended.set_exception(error)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if not self.ended.done():
            self.ended.set_result(None)
        elif not self.ended.cancelled():
            self.ended.exception()  # run_step has raised it, or something that came before it


def _compare_descriptors(names: Sequence[str], fds: Sequence[int]) -> None:
    """Raise EnvironmentFault where a descriptor that a message names did not come with it."""
    if len(names) != len(fds):
        raise EnvironmentFault(
            f"cannot take over what a step is watched by ({', '.join(names)}): too many open files",
            hints=("raise the limit on open files (ulimit -n)",),
        )
