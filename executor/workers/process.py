"""The main process's end of one zygote: starting it, talking to it, and its death."""

from __future__ import annotations

import asyncio
import marshal
import os
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pybuild.executor.steps.spec import Connecting, StepJoin, StepStart
from pybuild.executor.workers.interpreter import library_path
from pybuild.executor.workers.job import RunningJob
from pybuild.executor.workers.keptjobs import KeptJobs
from pybuild.executor.workers.launch import Launched, error_of, launch
from pybuild.executor.zygote import wire
from pybuild.executor.zygote.faults import describe_os_error
from pybuild.model.border import packed, unpacked
from pybuild.model.errors import (
    EnvironmentFault,
    InternalError,
    PybuildError,
    UserError,
)

_NOT_LINKED = 127  # the dynamic linker's status
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_STDERR_BYTES = 4000
DESCRIPTOR_SPACE = socket.CMSG_SPACE(wire.MOST_DESCRIPTORS * 4)


class ZygoteProcess:
    """One zygote, alive from `start` to `stop` or to its own end.

    Args:
        shielded: it runs a copy of the interpreter (`executor.workers.interpreter`).
        launched: one that was started already, in the same way.

    Attributes:
        kept: its workers that wait for another call.
    """

    def __init__(
        self,
        rootless: bool | None,
        pythonpath: Sequence[str],
        *,
        shielded: bool = False,
        launched: Launched | None = None,
    ) -> None:
        self.rung = ""
        self.rung_detail = ""
        self.alive = False
        self.kept = KeptJobs()
        self._rootless = rootless
        self._shielded = shielded
        self._exit = 0
        self._launched = launched
        self._pythonpath = list(pythonpath)
        self._jobs: dict[str, RunningJob] = {}
        self._count = 0
        self._imported: frozenset[str] = frozenset()
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._writing = False

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process and wait until it has entered its rung of isolation.

        Raises:
            EnvironmentFault: this machine allows none; the hints say what to change.
        """
        try:
            await self._start(os.environ)
        except EnvironmentFault:
            if not self._shielded or self._exit != _NOT_LINKED:
                raise
            # The copy is not where the original is, and looked for its libraries from there.
            await self._start({**os.environ, "LD_LIBRARY_PATH": library_path()})

    async def _start(self, environment: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        launched, self._launched = self._launched, None
        try:
            launched = launched or launch(
                self._rootless, self._pythonpath, shielded=self._shielded, environment=environment
            )
        except OSError as error:
            raise EnvironmentFault(
                describe_os_error(error, "cannot start the sandbox helper")
            ) from error
        self._process, self._control = launched.process, launched.control
        self._stderr = launched.stderr
        self._control.setblocking(False)
        self.alive = True
        self._loop.add_reader(self._control.fileno(), self._on_readable)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._ready
        except TimeoutError as error:
            await self.stop()
            raise EnvironmentFault(
                f"the sandbox helper was not ready after {_START_SECONDS:.0f} s"
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the zygote and all its jobs; returns when they are gone. Idempotent."""
        if self.alive:
            self._disconnect(EnvironmentFault("the sandbox helper was stopped"))
        if self._process.returncode is None:
            try:
                await asyncio.wait_for(self._ended(), _STOP_SECONDS)
            except TimeoutError:
                self._process.kill()
                await self._ended()
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    async def _ended(self) -> None:
        """Wait for the process's end; `Popen.wait` with a limit of time sleeps in between."""
        pidfd = os.pidfd_open(self._process.pid)
        try:
            await _readable(pidfd)
        finally:
            os.close(pidfd)
        self._process.wait()

    def rebind(self) -> None:
        """Follow the caller into another event loop, should the one we were started in be over."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Who was let go has no channel any more, and may be told of as gone in this loop only.
            served = [job for job in self._jobs.values() if job.channel.fileno() >= 0]
            if len(served) > len(self.kept):
                raise InternalError("workers are in use in another event loop")
            self._loop = loop
            self._loop.add_reader(self._control.fileno(), self._on_readable)
            self.kept.dismiss_all()

    def _disconnect(self, error: PybuildError) -> None:
        self.alive = False
        self.kept.dismiss_all()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._control.fileno())
            if self._writing:
                self._loop.remove_writer(self._control.fileno())
        self._control.close()
        for _, fds in self._outbox:
            for fd in fds:
                os.close(fd)
        self._outbox.clear()
        for job in self._jobs.values():
            if not job.gone.done():
                job.gone.set_exception(error)
                job.gone.exception()  # nobody looks at those that were kept
        self._jobs.clear()
        if not self._ready.done():
            self._ready.set_exception(error)

    def _died(self) -> None:
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._exit = status
        how = f"signal {-status}" if status < 0 else f"status {status}"
        text = f"the sandbox helper ended unexpectedly ({how})" + self.last_words()
        self._disconnect(EnvironmentFault(text, hints=("run the build again",)))

    def last_words(self) -> str:
        """Return ": " and the end of what the zygote and its children wrote to stderr, or ""."""
        size = os.fstat(self._stderr).st_size
        output = os.pread(self._stderr, _STDERR_BYTES, max(0, size - _STDERR_BYTES))
        text = output.decode("utf-8", "replace").strip()
        return f": {text}" if text else ""

    # --- jobs -------------------------------------------------------------------------------------

    def begin(
        self, start: StepStart | StepJoin | str, fds: Sequence[int], request: Any
    ) -> RunningJob:
        """Have a job started; *fds* (kept by the caller) come after the channel in the child.

        Args:
            start: a step, a process in one, or the name of a function to call.
            request: is on the channel before the process is, as far as it finds room there.
        """
        unsent = wire.frame(request)
        id = str(self._count + 1)
        message = marshal.dumps(("start", id, packed(start)))
        if len(message) > wire.CONTROL_BYTES:
            raise UserError(
                f"the step's host name and limits take {len(message)} bytes: "
                f"at most {wire.CONTROL_BYTES} are possible"
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        sent: list[int] = []
        try:
            for fd in (theirs.fileno(), *fds):
                sent.append(os.dup(fd))
        except BaseException:
            ours.close()
            for fd in sent:
                os.close(fd)
            raise
        finally:
            theirs.close()
        self._count += 1
        if isinstance(start, str):
            self._imported |= {start}
        job = RunningJob(id, ours, unsent, self._loop.create_future(), self._imported)
        job.send()
        self._jobs[job.id] = job
        self._post(message, sent)
        return job

    def kill(self, job: RunningJob, number: int) -> None:
        """Send a signal to the job's first process; nothing happens when it is gone."""
        if job.id in self._jobs:
            self._post(marshal.dumps(("kill", job.id, number)), [])

    def connect_ahead(self, way: Connecting, steps: int) -> None:
        """Have network namespaces made for so many steps that are to come, as far as that helps."""
        if self.alive:
            self._post(marshal.dumps(("connect", packed(way), steps)), [])

    def rest(self) -> None:
        """Let go of what was made for jobs that may not come: a build has ended."""
        self.kept.dismiss_all()
        if self.alive:
            self._post(marshal.dumps(("rest",)), [])

    def _post(self, message: bytes, fds: list[int]) -> None:
        self._outbox.append((message, fds))
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        while self._outbox:
            data, fds = self._outbox[0]
            try:
                socket.send_fds(self._control, [data], fds)
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._control.fileno(), self._flush)
                return
            except OSError:
                self._died()
                return
            self._outbox.popleft()
            for fd in fds:
                os.close(fd)
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._control.fileno())

    def _on_readable(self) -> None:
        while self.alive:
            try:
                data = self._control.recv(wire.CONTROL_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._died()
                return
            self._on_message(marshal.loads(data))

    def _on_message(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("ready", str() as rung, str() as detail):
                self.rung, self.rung_detail = rung, detail
                if not self._ready.done():
                    self._ready.set_result(None)
            case ("exit", str() as job_id, ended):
                job = self._jobs.pop(job_id)
                if not job.gone.done():
                    job.gone.set_result(unpacked(ended))
            case ("dead", *_):
                self._disconnect(error_of(message))
            case _:
                raise InternalError(f"unknown message from the zygote: {message!r}")


async def converse(
    job: RunningJob,
    on_message: Callable[[Sequence[Any]], bool],
    on_descriptor: Callable[[int], None] | None = None,
) -> bool:
    """Send the job the rest of its request, then hand on what it says until its channel ends.

    Returns True, and earlier, where *on_message* did: this was the last that it is going to say.

    Args:
        on_descriptor: takes over a descriptor that comes with a message; None where none does.
    """
    loop = asyncio.get_running_loop()
    if job.unsent:
        try:
            await loop.sock_sendall(job.channel, job.unsent)
        except (BrokenPipeError, ConnectionResetError):
            pass  # It died early; what it had to say is still there to be read.
        job.unsent = b""  # it may be a file of many megabytes
    talk = _Conversation(job.channel, on_message, on_descriptor)
    job.gone.add_done_callback(talk.end)
    try:
        return await talk.over
    finally:
        job.gone.remove_done_callback(talk.end)


class _Conversation:
    """The messages of a job, read as they come: one reader costs less than a wait for each.

    Attributes:
        over: done when nothing more is to come, see `converse`, or *on_message* raised.
    """

    def __init__(
        self,
        channel: socket.socket,
        on_message: Callable[[Sequence[Any]], bool],
        on_descriptor: Callable[[int], None] | None,
    ) -> None:
        self._channel = channel
        self._on_message = on_message
        self._on_descriptor = on_descriptor
        self._reassembler = wire.Reassembler()
        loop = asyncio.get_running_loop()
        fd = channel.fileno()
        self.over: asyncio.Future[bool] = loop.create_future()
        self.over.add_done_callback(lambda _: loop.remove_reader(fd))
        loop.add_reader(fd, self._read)

    def end(self, _: object) -> None:
        """Read what is left: the job is gone.

        uvloop stops to watch a socket once its other end was closed with our request unread, as
        where the job was refused or died early, and tells nobody.
        """
        while not self.over.done() and self._read():
            pass

    def _read(self) -> bool:
        """Read once; False where nothing is there now."""
        if self.over.done():
            return True
        try:
            is_last = self._receive()
        except BlockingIOError:
            return False
        except ConnectionResetError:
            is_last = False
        except Exception as error:  # noqa: BLE001 - the caller's; whoever waits raises it
            self.over.set_exception(error)
            return True
        if is_last is not None:
            self.over.set_result(is_last)
        return True

    def _receive(self) -> bool | None:
        """Read once; return what `converse` is to return, None while there may be more."""
        space = DESCRIPTOR_SPACE if self._on_descriptor else 0
        data, ancillary, _, _ = self._channel.recvmsg(1 << 16, space, socket.MSG_CMSG_CLOEXEC)
        for _, _, rights in ancillary:
            assert self._on_descriptor is not None
            for (fd,) in struct.iter_unpack("=i", rights[: len(rights) // 4 * 4]):
                self._on_descriptor(fd)
        if not data:
            return False
        for message in self._reassembler.feed(data):
            if self._on_message(message):
                return True
        return None


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, tell)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
