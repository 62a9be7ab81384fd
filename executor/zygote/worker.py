"""Calls: our own functions, run in a child of the zygote with its own mount namespace.

A child does one call and ends, which frees whatever it held. Half of what a short call costs is
that child, though, so a caller may ask it to stay for another one: a function that leaves nothing
behind, no mount and no open file. Who failed, or grew, ends all the same.
"""

from __future__ import annotations

import os
import sys

from pybuild.executor.zygote import isolation, syscalls, wire
from pybuild.executor.zygote.faults import ENVIRONMENT, INTERNAL, USER, Fault, describe_os_error
from pybuild.model.border import WorkerCall, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as RawSocket
    from collections.abc import Callable
    from typing import Any, NoReturn

_RECURSION = 20_000
_DESCRIPTORS = 8192
_MOST_KEPT_KIB = 64 * 1024


def preload(function: str) -> None:
    """Import the function's module in the zygote, so that its next children have it already.

    So those that its ``IMPORTED_LATER`` has for the function, which other users of the module do without.
    Whatever goes wrong is left for the child to meet again, where somebody hears of it.
    """
    module, _, name = function.partition(":")
    try:
        __import__(module)
        for later in getattr(sys.modules[module], "IMPORTED_LATER", {}).get(name, ()):
            __import__(later)
    except BaseException:  # noqa: BLE001
        return


def serve(channel: RawSocket, fds: list[int]) -> None:
    """Take requests from *channel*, do them, say what came of each. For the child; never raises."""
    try:
        prepare_for_depth()
        if isolation.mounts():
            syscalls.unshare(syscalls.CLONE_NEWNS)
        while _serve_one(channel, fds):
            pass
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        try:
            channel.sendall(wire.frame(fault_message(error)))
        except OSError:
            pass  # The main process is gone or has cancelled us; nobody is left to tell.


def _serve_one(channel: RawSocket, fds: list[int]) -> bool:
    """Do one request; return whether there may be another."""
    try:
        function, args, named, stay = wire.receive_one(channel)
    except EOFError:
        return False  # nobody wants anything of us any more

    def progress(done: int) -> None:
        channel.sendall(wire.frame(("progress", done)))

    try:
        call = WorkerCall(fds, progress)
        given = {name: unpacked(value) for name, value in named.items()}
        answer = _find(function)(call, *map(unpacked, args), **given)
    finally:
        _discard_views()
    stays = stay and _is_small()
    channel.sendall(wire.frame(("result", packed(answer), stays)))
    return stays


def _is_small() -> bool:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _MOST_KEPT_KIB


def _discard_views() -> None:
    views = sys.modules.get("pybuild.executor.zygote.copied.views")
    if views is not None:
        views.discard()


def prepare_for_depth() -> None:
    """Let functions follow a path of the kernel's greatest length, 2,000 directories, to its end.

    Each level is a few calls and up to two open directories.
    """
    import resource

    sys.setrecursionlimit(_RECURSION)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _DESCRIPTORS and soft != hard:
        known = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (known, hard))


def _find(function: str) -> Callable[..., object]:
    module, _, name = function.partition(":")
    __import__(module)
    named: Callable[..., object] = getattr(sys.modules[module], name)
    return named


def fault_message(error: BaseException) -> tuple[str, str, str, list[str]]:
    """Return ``("fault", kind, message, hints)`` for what a job raised."""
    if isinstance(error, Fault):
        return ("fault", error.kind, error.message, list(error.hints))
    if isinstance(error, OSError):
        return ("fault", ENVIRONMENT, describe_os_error(error), [])
    if isinstance(error, MemoryError):
        return ("fault", ENVIRONMENT, "out of memory", [])
    errors = sys.modules.get("pybuild.model.errors")
    if errors is not None and isinstance(error, errors.PybuildError):
        kind = INTERNAL
        if isinstance(error, errors.UserError):
            kind = USER
        elif isinstance(error, errors.EnvironmentFault):
            kind = ENVIRONMENT
        known: Any = error
        return ("fault", kind, known.message, list(known.hints))
    return ("fault", INTERNAL, f"{type(error).__name__}: {error}\n{where(error)}", [])


def where(error: BaseException) -> str:
    """Return the calls that led to *error*, outermost first.

    By hand, because a step has left the tree that the traceback module would be imported from.
    """
    lines: list[str] = []
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append(f"  {code.co_filename}:{at.tb_lineno} in {code.co_name}")
        at = at.tb_next
    return "\n".join(lines)


def exit_after(channel: RawSocket, fds: list[int]) -> NoReturn:
    """`serve`, then leave the process without running the zygote's exit handlers."""
    status = 1
    try:
        serve(channel, fds)
        status = 0
    finally:
        os._exit(status)
