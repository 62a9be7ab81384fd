"""Runs all attempts on one rung: ``python -m tests.security.escapes.running BASE PLACE [rootless] [RUNTIME]``.

Prints what each came to, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from pybuild.executor.steps.spec import StepMount, StepSpec
from pybuild.executor.workers.workers import Workers
from pybuild.executor.zygote import landlock
from pybuild.model.errors import PybuildError
from tests.security.escapes.attempt import CANARY, NODES, PYTHON, VICTIM, Escape, host_programs
from tests.security.escapes.calls import CALLS
from tests.security.escapes.table import ESCAPES, left_out

_SECONDS = 30.0
_EVIL = """
import os
fd = os.open("/proc/self/exe", os.O_RDONLY)
for attempt in (
    lambda: os.fchmod(fd, 0o4755),
    lambda: os.utime(fd),
    lambda: os.write(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), b"x"),
):
    try: attempt()
    except OSError as error: print(error.strerror)
print("tried")
"""
_CALLS = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = [ctypes.c_long] * 7
libc.syscall.restype = ctypes.c_long
found = {}
for name, (number, args) in json.loads(CALLS).items():
    ctypes.set_errno(0)
    done = libc.syscall(number, *args, *[0] * (6 - len(args)))
    if done == 0 and name.startswith("clone into"):
        import os
        os._exit(0)
    found[name] = "ok" if done >= 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps(found))
"""


def run_all(base: str, place: str, rootless: bool | None, runtime: str = "") -> dict[str, Any]:
    """Try everything and return what each attempt printed, with what became of the canary.

    Args:
        base: a root file system with busybox.
        place: an empty directory of our own.
        runtime: an OCI runtime that runs the steps.
    """
    os.environ["CANARY_VARIABLE"] = CANARY
    workers = Workers(rootless=rootless, runtime=runtime)
    return asyncio.run(_run_all(Path(base), Path(place), workers))


async def _run_all(base: Path, place: Path, workers: Workers) -> dict[str, Any]:
    import socket

    host, cache = place / "host", place / "cache"
    (host / "open").mkdir(parents=True)
    (host / "canary").write_text(CANARY + "\n")
    cache.mkdir()
    (cache / "link").symlink_to(host)
    name = f"pybuild-escape-{os.getpid()}"
    found: dict[str, Any] = {}
    with socket.socket(socket.AF_UNIX) as listening, socket.create_server(("127.0.0.1", 0)) as tcp:
        listening.bind("\0" + name)
        listening.listen()
        words = {
            "@HOST@": str(host),
            "@CACHE@": str(cache),
            "@PID@": str(os.getpid()),
            "@SOCKET@": name,
            "@SCOPES@": str(landlock.possible()),
            "@PORT@": str(tcp.getsockname()[1]),
        }
        try:
            found["rung"] = rung = await workers.isolation()
            before = _look(host)
            for number, escape in enumerate(ESCAPES):
                if left_out(rung, escape):
                    continue
                found[escape.name] = done = await _attempt(
                    workers, escape, base, place / str(number), words
                )
                done["host"] = "unchanged" if _look(host) == before else "changed"
            if rung == "chroot":
                return found  # the filter is the container's own
            script = _CALLS.replace("CALLS", repr(json.dumps(CALLS)), 1)
            calls = Escape(name="calls", script=script, shows="", python=True)
            done = await _attempt(workers, calls, base, place / "calls", words)
            found["calls"] = json.loads(done["out"] or "{}") or done
        finally:
            await workers.close()
    return found


def _look(host: Path) -> list[tuple[str, int, int, str]]:
    """Return what must not change: the canary with all around it, and our own program."""
    program = os.stat(sys.executable)
    nodes = [Path(VICTIM), *map(Path, NODES.split())]
    return [
        (sys.executable, program.st_mode, program.st_ctime_ns, str(program.st_size)),
        *((str(p), p.stat().st_mode, p.stat().st_ctime_ns, "") for p in nodes),
        *(
            (str(p), p.lstat().st_mode, p.lstat().st_ctime_ns, p.read_text() if p.is_file() else "")
            for p in (host, *sorted(host.rglob("*")))
        ),
    ]


async def _attempt(
    workers: Workers, escape: Escape, base: Path, place: Path, words: dict[str, str]
) -> dict[str, Any]:
    def said(value: Any) -> Any:
        match value:
            case "@PROGRAMS@":
                return host_programs()
            case str():
                for word, text in words.items():
                    value = value.replace(word, text)
                return value
            case StepMount(source=source):
                return value._replace(source=said(source))
            case tuple():
                return tuple(map(said, value))  # pyright: ignore[reportUnknownArgumentType]
            case _:
                return value

    for part in ("upper", "work", "image/etc", "image/bin", "image/tmp", "image/mnt"):
        (place / part).mkdir(parents=True)
    evil = place / "image/bin/evil"
    evil.write_text(f"#!/proc/self/exe\n{_EVIL}")
    evil.chmod(0o755)
    for path, target in escape.links:
        (place / "image" / path).symlink_to(said(target))
    script = said(escape.script)
    args = (PYTHON, "-I", "-S", "-c", script) if escape.python else ("/bin/sh", "-c", script)
    changes: dict[str, Any] = {name: said(value) for name, value in escape.steps}
    if escape.python:
        changes["mounts"] = (*host_programs(), *changes.get("mounts", ()))
    known: dict[str, Any] = {
        "lowers": (str(base), str(place / "image")),
        "upper": str(place / "upper"),
        "work": str(place / "work"),
        "args": args,
        "hosts": b"127.0.0.1 localhost\n",
    }
    output = {"stdout": b"", "stderr": b""}

    def on_output(stream: str, data: bytes) -> None:
        output[stream] += data

    try:
        async with asyncio.timeout(_SECONDS):
            ended = await workers.run_step(StepSpec(**(known | changes)), on_output)
        status = ended.status
    except PybuildError as error:
        status, output["stderr"] = -1, error.message.encode()
    except TimeoutError:
        status, output["stderr"] = -2, b"hangs"
    texts = {name[3:]: data.decode(errors="replace") for name, data in output.items()}
    return {"status": status, **texts}


if __name__ == "__main__":
    rootless = True if "rootless" in sys.argv[3:] else None
    runtime = "".join(name for name in sys.argv[3:] if name != "rootless")
    print(json.dumps(run_all(sys.argv[1], sys.argv[2], rootless, runtime)))
