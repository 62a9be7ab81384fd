"""Functions that the tests of the workers have called in a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pybuild.executor.zygote import isolation, overlay
from pybuild.executor.zygote.faults import Fault
from pybuild.model.border import NamedTuple, WorkerCall
from pybuild.model.errors import UserError


class Echo(NamedTuple):
    args: Mapping[str, Any]
    pid: int
    parent: int
    rung: str


class OpenFiles(NamedTuple):
    """The descriptors of a process, and which of them its caller handed over."""

    fds: Mapping[int, str]
    passed: Sequence[int]


def echo(call: WorkerCall, args: Mapping[str, Any] | None = None, count: int = 0) -> Echo:
    for number in range(count):
        call.progress(number)
    return Echo(args or {}, os.getpid(), os.getppid(), isolation.rung())


def read_fds(call: WorkerCall) -> list[bytes]:
    return [os.read(fd, 100) for fd in call.fds]


def fail(call: WorkerCall, how: str) -> None:
    match how:
        case "fault":
            raise Fault("user", "no such thing", ["try another"])
        case "model":
            raise UserError("model says no", hints=("yes",))
        case "os":
            open("/no/such/file").close()
        case "die":
            os.kill(os.getpid(), 9)
        case _:
            raise ValueError(how)


def die(call: WorkerCall) -> None:
    os._exit(0)


def sleep(call: WorkerCall) -> None:
    """Tell which process this is, and sleep."""
    call.progress(os.getpid())
    time.sleep(60)


def mount_by_number(call: WorkerCall, base: str, names: Sequence[str]) -> list[str]:
    """Mount as on kernels without ``lowerdir+``; *names* and ``target`` are under *base*."""
    lowers = [f"{base}/{name}" for name in names]
    mount = overlay.mount_by_number
    mount(f"{base}/target", lowers, f"{base}/upper", f"{base}/work", isolation.uses_userxattr())
    with open(f"{base}/target/new", "w"):
        pass
    return sorted(os.listdir(f"{base}/target"))


def open_files(call: WorkerCall) -> OpenFiles:
    return OpenFiles({int(n): os.readlink(f"/proc/self/fd/{n}") for n in _fds()}, tuple(call.fds))


def _fds() -> list[str]:
    return [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]


def grow(call: WorkerCall, size: int) -> int:
    """Touch so many bytes."""
    return len(bytearray(b"x") * size)


def answer_unknown(call: WorkerCall) -> object:
    """Return a value that no other process can know."""
    return object()
