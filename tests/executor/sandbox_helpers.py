"""A busybox root file system and one-line steps in it, for the tests of the sandbox."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.steps.spec import StepExit, StepMount, StepMountType, StepSpec
from pybuild.executor.workers.workers import Workers
from tests.needs import need

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    *("cat", "chmod", "chown", "echo", "env", "false", "grep", "hostname", "id", "ip", "kill"),
    *("ln", "ls", "mkdir", "mknod", "mount", "mv", "ps", "pwd", "readlink", "rm", "rmdir", "sh"),
    *("sleep", "stat", "test", "touch", "tr", "true", "umount", "unshare", "wc", "find", "head"),
    *("nsenter", "pivot_root"),
)
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1001:\nextra:x:2000:app,other\nlone:x:3000:\n"
HOST_PROGRAMS = tuple(
    StepMount(type=StepMountType.BIND_PATH, source=path, target=path, readonly=True)
    for path in ("/usr", "/lib", "/lib64")
    if os.path.isdir(path)
)


def skip_unless_possible() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("busybox")


def make_base(base: Path) -> Path:
    """Make a root file system with busybox, passwd and group, and nothing else."""
    need("busybox")
    (base / "bin").mkdir(parents=True)
    base.chmod(0o755)
    (base / "etc").mkdir()
    shutil.copy(BUSYBOX, base / "bin/busybox")
    for applet in APPLETS:
        os.link(base / "bin/busybox", base / "bin" / applet)
    (base / "etc/passwd").write_text(PASSWD)
    (base / "etc/group").write_text(GROUP)
    return base


def step_spec(
    place: Path, lowers: Sequence[Path], args: tuple[str, ...], changes: Mapping[str, Any]
) -> StepSpec:
    """Return a step on *lowers* that leaves its changes in the new directory *place*."""
    (place / "upper").mkdir(parents=True)
    (place / "work").mkdir()
    known: dict[str, Any] = {
        "lowers": tuple(str(p) for p in lowers),
        "upper": str(place / "upper"),
        "work": str(place / "work"),
        "args": args,
        "resolv_conf": b"nameserver 192.0.2.1\n",
        "hosts": b"127.0.0.1 localhost\n",
    }
    return StepSpec(**{**known, **changes})


class Box:
    """Runs steps on a stack of deltas and keeps what they leave."""

    def __init__(self, directory: Path, lowers: tuple[Path, ...], workers: Workers) -> None:
        self.directory = directory
        self.lowers = lowers
        self.workers = workers
        self._count = itertools.count()

    def spec(self, *args: str, **changes: Any) -> StepSpec:
        place = self.directory / f"step{next(self._count)}"
        return step_spec(place, self.lowers, args, changes)

    def run(self, *args: str, **changes: Any) -> Outcome:
        return self.run_spec(self.spec(*args, **changes))

    def sh(self, script: str, **changes: Any) -> Outcome:
        return self.run("/bin/sh", "-c", script, **changes)

    def run_spec(self, spec: StepSpec) -> Outcome:
        return asyncio.run(run_in(self.workers, spec))


class Outcome:
    """How a step ended, what it wrote, and its delta."""

    def __init__(self, spec: StepSpec, ended: StepExit, output: dict[str, bytes]) -> None:
        self.spec = spec
        self.ended = ended
        self.status = ended.status
        self.out = output["stdout"].decode()
        self.err = output["stderr"].decode()
        self.upper = Path(spec.upper)

    def delta(self) -> dict[str, str]:
        """Return what each path of the delta is: dir, file, link, whiteout, opaque."""
        return {
            str(path.relative_to(self.upper)): kind_of(path)
            for path in sorted(self.upper.rglob("*"))
        }


def kind_of(path: Path) -> str:
    status = path.lstat()
    if stat.S_ISCHR(status.st_mode):
        return "whiteout" if status.st_rdev == 0 else "device"
    if stat.S_ISDIR(status.st_mode):
        names = ("trusted.overlay.opaque", "user.overlay.opaque")
        return "opaque" if any(n in os.listxattr(path) for n in names) else "dir"
    return "link" if path.is_symlink() else "file"


async def run_in(workers: Workers, spec: StepSpec) -> Outcome:
    output = {"stdout": b"", "stderr": b""}

    def on_output(stream: str, data: bytes) -> None:
        output[stream] += data

    ended = await workers.run_step(spec, on_output)
    return Outcome(spec, ended, output)


def processes_with(mark: str) -> list[int]:
    """Return the processes that have *mark* in their command line and are not dead."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def parent(pid: int) -> int:
    """The parent; other tests and builds of this machine have zygotes of their own."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def mounts_of(directory: Path) -> list[str]:
    """Return the lines of this process's mounts that name *directory*; others come and go."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if str(directory) in line]
