"""pybuild as a person runs it, a base image of busybox, and contexts to build."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.needs import need

ROOT = Path(__file__).resolve().parents[1]
BUSYBOX = shutil.which("busybox")
TOOLS = [
    "sh",
    "cat",
    "chmod",
    "chown",
    "cp",
    "echo",
    "env",
    "false",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sleep",
    "stat",
    "sync",
    "test",
    "touch",
    "true",
]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Pybuild:
    """Runs pybuild's command line on one store."""

    store: Path
    config: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        env |= {"PYTHONPATH": str(ROOT), "PYBUILD_ROOT": str(self.store)}
        env["PYBUILD_HOST"] = "local"  # whatever builder whoever runs the tests has in use
        env["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"  # nor whatever engine there is
        # Compiling us anew for each command takes longer than most commands.
        env["PYTHONPYCACHEPREFIX"] = _compiled()
        if self.config:
            env["PYBUILD_CONFIG"] = str(self.config)
        return env

    def command(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-P", "-m", "pybuild", *map(str, words)]

    def __call__(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        code: int | None = 0,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Done:
        """Run, and insist on the exit code unless *code* is None."""
        done = subprocess.run(
            self.command(*words),
            cwd=cwd,
            env={**self.environment, **(env or {})},
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert code is None or done.returncode == code, f"status {done.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return Done(done.returncode, out, err)


def _compiled() -> str:
    """Return a directory of ours for compiled modules: what others put there would be run."""
    path = f"{tempfile.gettempdir()}/pybuild-tests-{os.getuid()}"
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if status.st_uid != os.getuid() or status.st_mode & 0o022 or not stat.S_ISDIR(status.st_mode):
        raise RuntimeError(f"{path} is not ours alone: remove it")
    return path


def make_base(pybuild: Pybuild, where: Path, name: str) -> None:
    """Build a small image with a shell from Debian's static busybox."""
    need("busybox")
    root = where / "root"
    for directory in ("bin", "etc", "tmp", "root"):
        (root / directory).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(str(BUSYBOX), root / "bin/busybox")
    for tool in TOOLS:
        (root / "bin" / tool).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    (where / "Dockerfile").write_text('FROM scratch\nCOPY root/ /\nENV BASE=yes\nCMD ["sh"]\n')
    pybuild("build", "-t", name, where)


def write(context: Path, **files: str) -> Path:
    """Make a context: ``Dockerfile=…``, other files by name."""
    context.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return context


def remove_store(store: Path) -> None:
    """Delete a store, or a part of it, right after a command: who flushes it after that may still mark what it holds."""
    for _ in range(100):
        try:
            shutil.rmtree(store)
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
    raise AssertionError(f"somebody keeps writing to {store}")


def leftovers(store: Path) -> list[str]:
    """Mounts and processes of a store that should be gone; what is in tmp/ may wait for the next."""
    mounts = [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(store) in line
    ]
    processes: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            root = os.readlink(entry / "root")
            status = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if status != "Z" and (str(store) in text or str(store) in root):
            processes.append(text)
    return [*mounts, *processes]
