"""Functions that the tests of the workers have called in a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from pybuild.executor.zygote import isolation, overlay
from pybuild.executor.zygote.faults import Fault
from pybuild.model.errors import UserError

Progress = Callable[[dict[str, Any]], None]


def echo(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    for number in range(args.get("count", 0)):
        progress({"number": number})
    return {"args": args, "pid": os.getpid(), "parent": os.getppid(), "rung": isolation.rung()}


def read_fds(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    return {"data": [os.read(fd, 100) for fd in fds]}


def fail(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    match args["how"]:
        case "fault":
            raise Fault("user", "no such thing", ["try another"])
        case "model":
            raise UserError("model says no", hints=("yes",))
        case "os":
            open("/no/such/file").close()
        case "die":
            os.kill(os.getpid(), 9)
        case _:
            raise ValueError(args["how"])
    return {}


def die(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    os._exit(0)


def sleep(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    progress({"pid": os.getpid()})
    time.sleep(60)
    return {}


def mount_by_number(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    """Mount as on kernels without ``lowerdir+``; *lowers* and *target* are under *base*."""
    base = args["base"]
    lowers = [f"{base}/{name}" for name in args["lowers"]]
    mount = overlay._mount_by_number  # pyright: ignore[reportPrivateUsage]
    mount(f"{base}/target", lowers, f"{base}/upper", f"{base}/work", isolation.uses_userxattr())
    with open(f"{base}/target/new", "w"):
        pass
    return {"names": sorted(os.listdir(f"{base}/target"))}


def open_files(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    return {"fds": {int(n): os.readlink(f"/proc/self/fd/{n}") for n in _fds()}, "passed": fds}


def _fds() -> list[str]:
    return [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]


def grow(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    """Touch as many bytes as ``size`` says."""
    taken = bytearray(b"x") * args["size"]
    return {"pid": os.getpid(), "size": len(taken)}
