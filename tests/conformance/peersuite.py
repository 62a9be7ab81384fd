"""A suite of BuildKit's or buildx's against the build server: a table, and what has changed since.

    BUILDKIT_CHECKOUT=/path/to/buildkit python -m tests.conformance.peersuite [PATTERN ...]

Nightly and by hand, never in CI: it needs root, Go, `docker-registry`, and a checkout of the reference,
of which nothing is kept here but the names of cases. Every case runs in a process of its own with a time
limit, as half an answer can make the client panic. Best in a network namespace of its own with loopback up.

Environment:
    SUITE: which one: client (without it), buildctl, dockerfile (with the frontend built in),
        dockerfile-client (with the frontend in the client), buildx (its remote driver).
    BUILDKIT_CHECKOUT, BUILDX_CHECKOUT: the references' checkouts; buildx's for its own suite.
    BUILDKITD: the server to run the suite against, for the reference's own figures; pybuild without it.
    SUITE_SCRATCH: where binaries, logs and the mirror of images go; a temporary directory without it.
    SUITE_JOBS, SUITE_LIMIT_S: cases at a time (2), seconds that one may take (120).

Ends with status 1 where a case that is recorded as passing does not pass.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.conformance.cases import HERE
from tests.conformance.standins import fill_mirror

_CASE = re.compile(r"^\s+--- (PASS|FAIL|SKIP): (\S+) \(", re.MULTILINE)
_BEGUN = re.compile(r"^=== RUN   (\S+)$", re.MULTILINE)
_ERROR = re.compile(r"^\s+Error:\s+(.*(?:\n\s{12,}\t?\s+\t.*)*)", re.MULTILINE)


class Peer(NamedTuple):
    """A suite: where its tests are, what it is recorded in, and the programs of the reference that they start."""

    checkout: str  # the variable that names it
    package: str
    record: str
    worker: str = "/worker=oci"
    programs: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}
    section: str = ""  # of the record
    platforms: Sequence[str] = ()  # that stand-ins claim to be for, beside the machine's


PEERS = {
    "client": Peer("BUILDKIT_CHECKOUT", "client", "clientsuite.toml"),
    "buildctl": Peer(
        "BUILDKIT_CHECKOUT",
        "cmd/buildctl",
        "othersuites.toml",
        programs={"buildctl": "cmd/buildctl"},
        section="buildctl",
    ),
    "buildx": Peer(
        "BUILDX_CHECKOUT",
        "tests",
        "othersuites.toml",
        worker="/worker=remote",
        programs={"buildx": "cmd/buildx"},
        section="buildx",
    ),
    "dockerfile": Peer(
        "BUILDKIT_CHECKOUT",
        "frontend/dockerfile",
        "suite.toml",
        programs={"buildctl": "cmd/buildctl"},
        environment={"FRONTEND_BUILTIN_ONLY": "1"},
        platforms=("arm64",),
        section="builtin",
    ),
    "dockerfile-client": Peer(
        "BUILDKIT_CHECKOUT",
        "frontend/dockerfile",
        "suite.toml",
        programs={"buildctl": "cmd/buildctl"},
        environment={"FRONTEND_CLIENT_ONLY": "1"},
        platforms=("arm64",),
        section="client",
    ),
}


class Outcome(NamedTuple):
    """How one case ended."""

    case: str
    verdict: str  # passed, failed, skipped, hung, panicked
    reason: str = ""


class Suite(NamedTuple):
    """The parts that cases are run with: made once."""

    scratch: Path
    binary: Path
    package: Path
    limit_s: int
    peer: Peer

    @classmethod
    def prepare(
        cls, peer: Peer, checkout: Path, scratch: Path, server: str | None, limit_s: int
    ) -> Suite:
        """Build the tests' binary and the programs that it starts, and fill the mirror."""
        for name in ("programs", "server"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        binary = scratch / (peer.package.replace("/", "-") + ".test")
        _go(["test", "-c"], checkout, peer.package, binary)
        for name, package in peer.programs.items():
            _go(["build"], checkout, package, scratch / "programs" / name)
        registry = shutil.which("registry") or shutil.which("docker-registry")
        ours = server or str(Path(sys.executable).parent / "pybuild")
        for name, target in (("programs/registry", registry), ("server/buildkitd", ours)):
            link = scratch / name
            link.unlink(missing_ok=True)
            link.symlink_to(target or "/nowhere")
        mirror = scratch / "mirror"
        if registry and not mirror.exists():
            frontend = os.environ.get("DOCKERFILE_FRONTEND")
            own = Path(frontend) if frontend else None
            fill_mirror(registry, mirror, own, peer.platforms)
        return cls(scratch, binary, checkout / peer.package, limit_s, peer)

    def environment(self) -> dict[str, str]:
        """The environment of a case."""
        path = f"{self.scratch / 'programs'}:{self.scratch / 'server'}:{os.environ['PATH']}"
        mirror = str(self.scratch / "mirror")
        own = {"PATH": path, "BUILDKIT_REGISTRY_MIRROR_DIR": mirror}
        return {**os.environ, **self.peer.environment, **own}

    def cases(self) -> list[str]:
        """Return the names of all cases: each fails at once, and tells its name, where no server is found.

        One that runs alone ends the list with it, so that these are asked for one by one.
        """
        found = self._names("Integration", "/NoParallel$")
        alone: list[str] = []
        while True:
            skipped = f"/^({'|'.join(alone)})$" if alone else "^$"
            more = self._names("Integration/NoParallel$", skipped)
            if not more:
                return sorted(found)
            found |= more
            alone += sorted({name.split("/")[1] for name in more})

    def _names(self, wanted: str, skipped: str) -> set[str]:
        environment = self.environment()
        environment["PATH"] = str(self.scratch / "programs")
        words = ["-test.run", wanted, "-test.skip", skipped]
        output = self._finish(words, "cases.log", environment)[0]
        return {name for name in _BEGUN.findall(output) if self.peer.worker in name}

    def run(self, case: str) -> Outcome:
        """Run one case to its end, or to the limit."""
        pattern = "/".join(f"^{re.escape(part)}$" for part in case.split("/"))
        words = ["-test.run", pattern, f"-test.timeout={self.limit_s}s"]
        name = case.replace("/", "_") + ".log"
        return outcome(case, *self._finish(words, name, self.environment()))

    def _finish(
        self, words: Sequence[str], name: str, environment: Mapping[str, str]
    ) -> tuple[str, int]:
        """Run the binary to its end or to the limit; return what it wrote, and its status or -1."""
        log = self.scratch / "logs" / name
        log.parent.mkdir(exist_ok=True)
        mark = f"{os.getpid()} {name}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(self.binary), "-test.v", *words],
                cwd=self.package,
                env={**environment, "PEERSUITE_CASE": mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
            try:
                status = process.wait(self.limit_s + 10)
            except subprocess.TimeoutExpired:
                status = -1
            finally:
                _end(process, f"PEERSUITE_CASE={mark}")
        return log.read_text(errors="replace"), status


def outcome(case: str, text: str, status: int) -> Outcome:
    """Return how *case* ended, by what its process wrote."""
    if status == -1 or "panic: test timed out" in text:
        return Outcome(case, "hung")
    if re.search(r"^panic: ", text, re.MULTILINE) and "--- FAIL" not in text.split("panic: ")[0]:
        return Outcome(case, "panicked", text.split("panic: ", 1)[1].split("\n")[0][:200])
    verdicts = {name: verdict for verdict, name in _CASE.findall(text)}
    verdict = verdicts.get(case, "FAIL")
    if status == 0 and verdict != "FAIL":
        return Outcome(case, "skipped" if verdict == "SKIP" else "passed")
    errors = [" ".join(match.split()) for match in _ERROR.findall(text)]
    return Outcome(case, "failed", (errors or ["no message"])[0][:300])


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill *process* and what it started: servers are in sessions of their own, and outlive a case that panics.

    Args:
        mark: a word of the environment that all of them got.
    """
    children: dict[int, list[int]] = {}
    roots = {process.pid} if process.poll() is None else set[int]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    roots.add(int(entry.name))
            except OSError:
                continue
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    for pid in {one for root in roots for one in (root, *_below(root, children))}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _below(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, []):
        yield from _below(child, children)
        yield child


def _go(words: Sequence[str], checkout: Path, package: str, output: Path) -> None:
    """Build *package* of *checkout*, where it was not built before."""
    if not output.exists():
        subprocess.run(
            ["go", *words, "-o", str(output), f"./{package}"],
            cwd=checkout,
            env={**os.environ, "CGO_ENABLED": "0"},
            check=True,
            timeout=3600,
        )


def passing(peer: Peer, verdicts: Mapping[str, str]) -> set[str]:
    """Return which cases are recorded as passing: those listed, or all that no list of others names."""
    recorded = tomllib.loads((HERE / peer.record).read_text(encoding="utf-8"))
    recorded = recorded[peer.section] if peer.section else recorded
    if "passing" in recorded:
        return set(recorded["passing"])
    others = {*recorded["misses"], *recorded["alike"]}
    return {
        name
        for name, verdict in verdicts.items()
        if verdict != "skipped" and name.partition("/")[2] not in others
    }


def main(patterns: Sequence[str]) -> int:
    """Run the cases that match, print the table, and compare it with the record."""
    os.nice(5)
    peer = PEERS[os.environ.get("SUITE", "client")]
    checkout = Path(os.environ[peer.checkout])
    scratch = Path(os.environ.get("SUITE_SCRATCH") or tempfile.mkdtemp(prefix="suite-"))
    limit_s = int(os.environ.get("SUITE_LIMIT_S", "120"))
    suite = Suite.prepare(peer, checkout, scratch, os.environ.get("BUILDKITD"), limit_s)
    cases = suite.cases()
    if patterns:
        cases = [name for name in cases if any(fnmatch.fnmatch(name, f"*{p}*") for p in patterns)]
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(int(os.environ.get("SUITE_JOBS", "2"))) as pool:
        for done in pool.map(suite.run, cases):
            outcomes.append(done)
            print(f"{done.verdict:9} {short(peer, done.case)}  {done.reason}", flush=True)
    print(dict(Counter(done.verdict for done in outcomes)))
    verdicts = {short(peer, done.case): done.verdict for done in outcomes}
    recorded = passing(peer, verdicts)
    lost = [name for name, verdict in verdicts.items() if name in recorded and verdict != "passed"]
    gained = [
        name for name, verdict in verdicts.items() if name not in recorded and verdict == "passed"
    ]
    print(
        "\n".join(
            [
                *(f"no longer passes: {name}" for name in lost),
                *(f"passes now: {name}" for name in gained),
            ]
        )
    )
    return 1 if lost else 0


def short(peer: Peer, case: str) -> str:
    """Return the name of *case* as it is recorded: without its worker and frontend, which all share."""
    return re.sub(r"/frontend=\w+", "", case.replace(peer.worker, ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
