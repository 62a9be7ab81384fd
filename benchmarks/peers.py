"""The builders: pybuild, and those of BuildKit and Buildah that are found."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.builder import Builder, CommandFailed, Job, Output, command, one_by_one
from benchmarks.place import remove

PEERS = ("buildkit", "buildah")
_READY_S = 30.0

# One process that builds all of a list of jobs: what `many` measures of us.
_TOGETHER = """
import asyncio, json, sys
from pybuild.api import build_async

async def main(jobs, root):
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(build_async(job["context"], build_args=job["args"], root=root,
                                          no_cache=job["no_cache"], tags=[job["tag"]]))

jobs = json.load(sys.stdin)
asyncio.run(main(jobs, sys.argv[1]))
"""


def find(place: Path, *, durable: bool = False, among: Sequence[str] = PEERS) -> list[Builder]:
    """Return pybuild and every peer *among* those that this machine has, with stores in *place*."""
    builders: list[Builder] = [Pybuild(place / "pybuild", durable=durable)]
    has_server = os.environ.get("BUILDKIT_HOST") or shutil.which("buildkitd")
    if "buildkit" in among and has_server and shutil.which("buildctl"):
        builders.append(BuildKit(place / "buildkit"))
    if "buildah" in among and shutil.which("buildah") and os.geteuid() == 0:
        builders.append(Buildah(place / "buildah"))
    return builders


def servers(place: Path) -> list[Builder]:
    """Return BuildKit's server and ours, both driven by buildctl."""
    if not shutil.which("buildctl"):
        raise SystemExit("buildctl is needed on PATH")
    _, *peers = find(place, among=("buildkit",))
    return [BuildKit(place / "served", ours=True), *peers]


class Pybuild:
    """Ours: the command beside this interpreter, no daemon.

    Args:
        durable: everything a build wrote is on the disk before it says so.
    """

    name = "pybuild"

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self._root = root
        self.program = Path(sys.executable).with_name("pybuild")
        config = root.with_suffix(".toml")
        config.write_text("durable = true\n" if durable else "")
        self.environment = {
            "PYBUILD": str(self.program),
            "PYBUILD_ROOT": str(root),
            "PYBUILD_HOST": "local",
            "PYBUILD_CONFIG": str(config),
            # An installed package is compiled; a checkout is by its first run, if that may write.
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def version(self) -> str:
        return self._run("--version").strip()

    def build(self, job: Job) -> None:
        self._run("build", "--progress", "quiet", *self._flags(job), str(job.context))

    def build_all(self, jobs: Sequence[Job]) -> None:
        settings = [
            {
                "context": str(job.context),
                "args": dict(job.args),
                "no_cache": job.no_cache,
                "tag": job.ref,
            }
            for job in jobs
        ]
        words = (sys.executable, "-P", "-c", _TOGETHER, self._root)
        command(*words, env=self.environment, stdin=json.dumps(settings).encode())

    def bake(self, directory: Path) -> None:
        words = ("bake", "--progress", "quiet")
        command(self.program, *words, env=self.environment, directory=directory)

    def forget(self, *, contexts: bool = True) -> None:
        remove(self._root)

    def daemons(self) -> list[int]:
        return []

    def close(self) -> None:
        pass

    def _run(self, *words: str) -> str:
        return command(self.program, *words, env=self.environment)

    def _flags(self, job: Job) -> list[str]:
        flags = [f"--build-arg={name}={value}" for name, value in job.args.items()]
        flags += ["--no-cache"] if job.no_cache else []
        flags += [self._output(job)]
        flags += [f"--cache-from=type=registry,ref={job.cache_from}"] if job.cache_from else []
        flags += [f"--cache-to=type=registry,mode=max,ref={job.cache_to}"] if job.cache_to else []
        return flags

    def _output(self, job: Job) -> str:
        match job.output:
            case Output.DEFAULT | Output.STORE:  # they are the same
                return f"--tag={job.ref}"
            case Output.NOTHING:
                return "--output=type=cacheonly"
            case Output.PUSH:
                return f"--output=type=image,push=true,name={job.ref}"
            case Output.ARCHIVE:
                return f"--output=type=oci,dest={job.dest},name={job.ref}"


class BuildKit:
    """buildctl and a buildkitd: the running one of $BUILDKIT_HOST, else one of our own.

    Args:
        ours: it is `pybuild daemon` that serves buildctl.
    """

    def __init__(self, root: Path, *, ours: bool = False) -> None:
        self.name = "pybuild" if ours else "buildkit"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._buildx: tempfile.TemporaryDirectory[str] | None = None
        self.address = "" if ours else os.environ.get("BUILDKIT_HOST", "")
        if not self.address:
            program = (Path(sys.executable).with_name("pybuild"), "daemon")
            flags = ("--oci-worker=true", "--containerd-worker=false")
            self._start(root, program if ours else ("buildkitd", *flags))

    def _start(self, root: Path, program: Sequence[str | Path]) -> None:
        root.mkdir()
        # The path of a Unix socket is short, that of the place may not be.
        self._sockets = tempfile.TemporaryDirectory(prefix="bk-")
        self.address = f"unix://{self._sockets.name}/{secrets.token_hex(2)}.sock"
        log = root.with_suffix(".log").open("wb")
        self._daemon = subprocess.Popen(
            [*map(str, program), "--root", str(root), "--addr", self.address],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none", "PYTHONDONTWRITEBYTECODE": ""},
        )
        log.close()
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                command("buildctl", "--addr", self.address, "debug", "workers")
                return
            except CommandFailed:
                if self._daemon.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    log_text = root.with_suffix(".log").read_text(errors="replace")[-2000:]
                    raise SystemExit(f"{program[0]} does not start:\n{log_text}") from None
                time.sleep(0.05)

    def version(self) -> str:
        return self._run("debug", "info").strip().splitlines()[0]

    def build(self, job: Job) -> None:
        flags = [f"--opt=build-arg:{name}={value}" for name, value in job.args.items()]
        flags += ["--no-cache"] if job.no_cache else []
        flags += [f"--import-cache=type=registry,ref={job.cache_from}"] if job.cache_from else []
        flags += (
            [f"--export-cache=type=registry,mode=max,ref={job.cache_to}"] if job.cache_to else []
        )
        match job.output:
            case Output.DEFAULT | Output.NOTHING:  # they are the same
                pass
            case Output.STORE:  # what docker buildx does for --load: an archive for docker load
                flags += [f"--output=type=docker,dest=/dev/null,name={job.ref}"]
            case Output.PUSH:
                flags += [f"--output=type=image,push=true,name={job.ref}"]
            case Output.ARCHIVE:
                flags += [f"--output=type=oci,dest={job.dest},name={job.ref}"]
        self._run(
            *("build", "--progress=plain", "--frontend=dockerfile.v0"),
            *(f"--local=context={job.context}", f"--local=dockerfile={job.context}", *flags),
        )

    def build_all(self, jobs: Sequence[Job]) -> None:
        one_by_one(self, jobs)

    def bake(self, directory: Path) -> None:
        if self._buildx is None:
            self._buildx = tempfile.TemporaryDirectory(prefix="buildx-")
            self._run_buildx("create", "--driver", "remote", "--name", "bench", self.address)
        self._run_buildx("bake", "--builder", "bench", "--progress=quiet", directory=directory)

    def _run_buildx(self, *words: str, directory: Path | None = None) -> None:
        assert self._buildx
        env = {"BUILDX_CONFIG": self._buildx.name}
        command("docker-buildx", *words, env=env, directory=directory)

    def forget(self, *, contexts: bool = True) -> None:
        self._run("prune", *(["--all"] if contexts else ["--all", "--filter=type!=source.local"]))

    def daemons(self) -> list[int]:
        if self._daemon:
            return [self._daemon.pid]
        scheme, _, path = self.address.partition("://")
        if scheme != "unix":
            return []
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
            size = struct.calcsize("3i")
            packed = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return [struct.unpack("3i", packed)[0]]

    def close(self) -> None:
        if self._buildx:
            self._buildx.cleanup()
        if self._daemon:
            self._daemon.terminate()
            try:
                self._daemon.wait(20)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._sockets.cleanup()

    def _run(self, *words: str) -> str:
        return command("buildctl", "--addr", self.address, *words)


class Buildah:
    """Debian's buildah, each step a layer as the others have it."""

    name = "buildah"

    def __init__(self, root: Path) -> None:
        self._global = ("--root", str(root / "root"), "--runroot", str(root / "run"))
        # Where both are installed the default is crun, which refuses hybrid cgroups.
        self._env = {"BUILDAH_RUNTIME": "runc"} if shutil.which("runc") else {}

    def version(self) -> str:
        return command("buildah", "--version").strip()

    def build(self, job: Job) -> None:
        flags = [f"--build-arg={name}={value}" for name, value in job.args.items()]
        flags += ["--no-cache"] if job.no_cache else []
        flags += [f"--cache-from={_repository(job.cache_from)}"] if job.cache_from else []
        flags += [f"--cache-to={_repository(job.cache_to)}"] if job.cache_to else []
        words = ("build", "--quiet", "--layers", "--tls-verify=false", "--network=host")
        self._run(*words, "-t", job.ref, *flags, str(job.context))
        if job.output is Output.PUSH:
            self._run("push", "--quiet", "--tls-verify=false", job.ref)
        elif job.output is Output.ARCHIVE:
            assert job.dest
            job.dest.unlink(missing_ok=True)
            self._run("push", "--quiet", job.ref, f"oci-archive:{job.dest}:{job.ref}")

    def build_all(self, jobs: Sequence[Job]) -> None:
        one_by_one(self, jobs)

    def bake(self, directory: Path) -> None:
        raise CommandFailed("it has no bake")

    def forget(self, *, contexts: bool = True) -> None:
        self._run("rm", "--all")
        self._run("rmi", "--all", "--force")

    def daemons(self) -> list[int]:
        return []

    def close(self) -> None:
        self._run("rm", "--all")

    def _run(self, *words: str) -> str:
        return command("buildah", *self._global, *words, env=self._env)


def _repository(ref: str) -> str:
    """Buildah keeps a cache under digests of its own, so it wants a reference without a tag."""
    name, _, tag = ref.rpartition(":")
    return name if name and "/" not in tag else ref
