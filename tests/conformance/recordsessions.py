"""Asks dockerd anew what is right, and keeps its answers in ``engine/``.

    python -m tests.conformance.recordsessions             # all
    python -m tests.conformance.recordsessions ps volumes  # these

Needs root, and Debian's docker.io; the daemon runs in namespaces of its own, with its files in memory, and leaves nothing.
What pybuild answers otherwise and has a reason for stays, as far as dockerd's answer is still another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.conformance.enginemachine import CLEAN, Machine, make_images
from tests.conformance.session import HERE, Request, Session, sessions
from tests.harness import Pybuild

_DAEMON = """\
mount -t tmpfs tmpfs /run && ip link set lo up || exit
mkdir {where}/d && mount -t tmpfs tmpfs {where}/d || exit
exec dockerd --data-root {where}/d/data --exec-root {where}/d/exec -p {where}/d/pid -H unix://{where}/socket
"""


@contextmanager
def reference(where: Path) -> Generator[Machine]:
    """Yield a machine on which ``docker`` is docker."""
    here = where / "here"
    here.mkdir()
    script = _DAEMON.format(where=where)
    with (where / "log").open("wb") as log:
        daemon = subprocess.Popen(["unshare", "-nm", "sh", "-c", script], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while not (where / "socket").exists():
            if daemon.poll() is not None or time.monotonic() > until:
                raise SystemExit((where / "log").read_text())
            time.sleep(0.1)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(where),
            "DOCKER_HOST": f"unix://{where}/socket",
        }
        enter = ["nsenter", "-t", str(daemon.pid), "-n"]
        roots = {f"{where}/d/data": "<root>", str(here): "<here>"}
        yield Machine(["command", "docker"], here, environment, enter, roots)
    finally:
        daemon.terminate()
        daemon.wait(60)


def load_images(machine: Machine, where: Path) -> None:
    """Give docker the very images that pybuild has in its tests."""
    pybuild = Pybuild(where / "store")
    names = make_images(pybuild, where / "images")
    pybuild("save", "-o", where / "images.tar", *names)
    done = machine.ask(f"docker load -i {where}/images.tar")
    if done.status:
        raise SystemExit("\n".join(done.lines()))


def recorded(machine: Machine, session: Session) -> Session:
    """Return a session with new answers."""
    requests: list[Request] = []
    for request in session.requests:
        try:
            theirs = machine.ask(request.line)
        except subprocess.TimeoutExpired:
            print(f"no answer: {request.line}", flush=True)
            continue
        request = replace(request, theirs=theirs)
        requests.append(
            request if request.ours != theirs else replace(request, reason="", ours=None)
        )
    machine.ask(CLEAN)
    return replace(session, requests=tuple(requests))


def main(names: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as directory, reference(Path(directory)) as machine:
        load_images(machine, Path(directory))
        for session in sessions():
            if not names or session.name in names:
                print(session.name, flush=True)
                text = recorded(machine, session).text()
                (HERE / f"{session.name}.session").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
