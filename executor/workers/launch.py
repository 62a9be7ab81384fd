"""How a zygote is started: a process, and the socket over which it is told what to do.

Apart from `zygote_process`, which talks with it, because this needs no event loop: a command that
is about to build starts its zygotes first, and they get ready while it imports the rest. The same goes for
the errors that faults of such processes stand for.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress

from pybuild.executor.workers.interpreter import copy_interpreter
from pybuild.model.errors import (
    EnvironmentFault,
    InternalError,
    PybuildError,
    SourceMoved,
    UserError,
)
from pybuild.model.package import parent_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_BOOT = (
    "import sys; "
    "sys.path += sys.argv[5:]; "
    "from pybuild.executor.zygote.loop import main; "
    "rootless = {'yes': True, 'no': False}.get(sys.argv[3]); "
    "main(int(sys.argv[1]), int(sys.argv[2]), rootless, sys.argv[4])"
)
_FAULTS: dict[str, type[PybuildError]] = {
    "user": UserError,
    "environment": EnvironmentFault,
    "internal": InternalError,
    "moved": SourceMoved,
}
# What the first job is going to need, imported while nobody has asked for one.
STEPS, CALLS = "pybuild.executor.zygote.sandbox", "pybuild.executor.files.apply"


class Launched:
    """A zygote that was started, whether it is ready or not.

    Attributes:
        control: our end of its socket; when it closes, the zygote ends, and all of its jobs do.
        stderr: a file in memory with what it and its jobs wrote to their standard error.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, stderr: int
    ) -> None:
        self.process = process
        self.control = control
        self.stderr = stderr

    def end(self) -> None:
        """End a zygote that was not used, at once."""
        self.control.close()
        os.close(self.stderr)
        self.process.kill()
        self.process.wait()


def default_pythonpath() -> list[str]:
    """Return where a worker finds what this process has imported or could import.

    The interpreter's own directories come first in the zygote, so a checkout's top-level folders
    cannot hide a standard module.
    """
    return list(dict.fromkeys([*parent_directories(), *(p for p in sys.path if os.path.isabs(p))]))


def launch(
    rootless: bool | None,
    pythonpath: Sequence[str],
    *,
    shielded: bool,
    environment: Mapping[str, str] | None = None,
) -> Launched:
    """Start a zygote and do not wait for it.

    Args:
        shielded: it runs a copy of the interpreter (`executor.workers.interpreter`).

    Raises:
        OSError, EnvironmentFault: this machine does not let us.
    """
    if not sys.executable:
        raise InternalError("sys.executable is empty: no interpreter to start the zygote with")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stderr = os.memfd_create("pybuild-zygote-stderr", os.MFD_CLOEXEC)
    # The control socket's end says that we are gone, unless something that we forked holds a
    # copy; the pidfd says it in any case.
    watch = os.pidfd_open(os.getpid())
    fds = (theirs.fileno(), watch)
    try:
        process = start_lean(
            _BOOT,
            fds,
            rootless,
            [STEPS if shielded else CALLS, *pythonpath],
            shielded=shielded,
            environment=environment,
            stdout=stderr,
            stderr=stderr,
        )
    except BaseException:
        ours.close()
        os.close(stderr)
        raise
    finally:
        theirs.close()
        os.close(watch)
    return Launched(process, ours, stderr)


def start_lean(
    boot: str,
    fds: tuple[int, int],
    rootless: bool | None,
    words: Sequence[str],
    *,
    shielded: bool,
    environment: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int,
) -> subprocess.Popen[bytes]:
    """Start an interpreter that imports nothing by itself, in a session of its own.

    Args:
        boot: its program, which finds *fds*, ``yes``, ``no`` or ``auto`` for *rootless*, and *words* in its arguments.
        shielded: it runs a copy of the interpreter (`executor.workers.interpreter`).

    Raises:
        OSError, EnvironmentFault: this machine does not let us.
    """
    rootless_word = {True: "yes", False: "no", None: "auto"}[rootless]
    program = copy_interpreter() if shielded else -1
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", boot, *map(str, fds), rootless_word, *words],
            # By our descriptor, as one of its own would stay open in it.
            executable=f"/proc/{os.getpid()}/fd/{program}" if shielded else None,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=fds,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone.
        )
    finally:
        if program >= 0:
            os.close(program)


class Ahead:
    """Zygotes that are started before anybody asks for them, for `Workers` with all defaults.

    On a machine with one processor there are none: they would only keep us from what we do.

    Attributes:
        waiting: those that nobody has taken, by what they are for: ``exec`` or ``call``.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, Launched] = {}
        if len(os.sched_getaffinity(0)) < 2:
            return
        # What goes wrong is met again, and told, by whoever needs the zygote.
        with suppress(OSError, PybuildError):
            for kind in ("exec", "call"):
                self.waiting[kind] = launch(None, default_pythonpath(), shielded=kind == "exec")

    def take(self, kind: str) -> Launched | None:
        """Return the zygote for *kind*, once."""
        return self.waiting.pop(kind, None)

    def end(self) -> None:
        """End what nobody took."""
        while self.waiting:
            self.waiting.popitem()[1].end()


def error_of(message: Sequence[Any]) -> PybuildError:
    """Return the error that ``("fault" | "dead", kind, message, hints)`` stands for."""
    _, kind, text, hints = message
    return _FAULTS.get(kind, InternalError)(text, hints=hints)
