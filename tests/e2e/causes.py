"""Single causes of a miss, and what `explain` is to name for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pybuild.cache.store import Store
from pybuild.engine.host import SystemClock
from pybuild.explain.history import find_report, reports
from pybuild.explain.report import to_json
from tests.harness import Pybuild, write

DOCKERFILE = """\
FROM base AS tools
RUN mkdir /out && echo tool > /out/tool
FROM base
ARG VERSION=1
ARG API_TOKEN=hunter2
ENV MODE=fast OTHER=1
WORKDIR /work
COPY src/ src/
COPY --chown=1:1 --chmod=0644 one.txt /one
COPY --from=tools /out/tool /tool
COPY <<EOF /here
text
EOF
RUN --mount=type=bind,source=bound,target=/bound --mount=type=tmpfs,target=/t,size=1m \
    --mount=type=secret,id=s,target=/s true
USER root
RUN --network=none echo last
"""
FILES = {
    "src/a": "a\n",
    "src/deep/b": "b\n",
    "one.txt": "1\n",
    "bound/c": "c\n",
    "src/x.log": "x\n",
    ".dockerignore": "# what nobody needs\n*.tmp\n**/*.log\n",
}


@dataclass(frozen=True)
class Site:
    """A context that was built once, on a store of its own."""

    pybuild: Pybuild
    context: Path

    def edit(self, old: str, new: str, name: str = "Dockerfile") -> None:
        path = self.context / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def build(self, *words: str | Path, code: int | None = 0) -> None:
        self.pybuild("build", "-q", "--progress=none", "-t", "app", *words, self.context, code=code)

    def explained(self) -> dict[str, Any]:
        """Return the document of ``explain --format=json``, without a process for it."""
        with Store.open(self.pybuild.store, SystemClock()) as store:
            return to_json(find_report(reports(store), ""))


@dataclass(frozen=True)
class Case:
    """A mutation, the step that misses first, and the cause that is to be named for it."""

    name: str
    mutate: Callable[[Site], None]
    step: str
    reason: str = "changed"
    field: str = ""
    was: str | None = None
    now: str | None = None
    path: str = ""
    note: str = ""
    options: tuple[str, ...] = ()


def edit(old: str, new: str, name: str = "Dockerfile") -> Callable[[Site], None]:
    return lambda site: site.edit(old, new, name)


def file(action: Callable[[Path], object]) -> Callable[[Site], None]:
    def mutate(site: Site) -> None:
        action(site.context)

    return mutate


def nothing(_site: Site) -> None:
    """The options alone change something."""


def relink(context: Path) -> None:
    (context / "src/link").unlink()
    (context / "src/link").symlink_to("deep")


def become_link(context: Path) -> None:
    (context / "src/a").unlink()
    (context / "src/a").symlink_to("deep/b")


def rebase(site: Site) -> None:
    context = site.context.parent / "rebase"
    write(context, Dockerfile="FROM base\nLABEL new=1\n")
    site.pybuild("build", "-q", "-t", "base", context)


def prune(site: Site) -> None:
    site.pybuild("rmi", "app")
    site.pybuild("prune", "-a", "-f")


COPY_SRC = "COPY src/ src/"
RUN_MOUNTS = "RUN --mount=type=bind"
RUN_LAST = "RUN --network"
CASES = [
    Case(
        "content of a file",
        file(lambda c: (c / "src/a").write_text("other\n")),
        COPY_SRC,
        field="file.content",
        path="src/a",
    ),
    Case(
        "mode of a file",
        file(lambda c: (c / "src/a").chmod(0o640)),
        COPY_SRC,
        field="file.mode",
        path="src/a",
        was="0644",
        now="0640",
        note="git keeps no such bits; with --modes=git they do not count",
    ),
    Case(
        "a file may be executed",
        file(lambda c: (c / "src/a").chmod(0o755)),
        COPY_SRC,
        field="file.mode",
        path="src/a",
        was="0644",
        now="0755",
    ),
    Case(
        "mode of a directory",
        file(lambda c: (c / "src/deep").chmod(0o700)),
        COPY_SRC,
        field="file.mode",
        path="src/deep",
        was="0755",
        now="0700",
    ),
    Case(
        "target of a link",
        file(relink),
        COPY_SRC,
        field="file.link",
        path="src/link",
        was="a",
        now="deep",
    ),
    Case(
        "a file became a link",
        file(become_link),
        COPY_SRC,
        field="file.type",
        path="src/a",
        was="file of 2 bytes",
        now="link to deep/b",
    ),
    Case(
        "a new file",
        file(lambda c: (c / "src/deep/new").write_text("n")),
        COPY_SRC,
        field="file.added",
        path="src/deep/new",
        now="file of 1 bytes",
    ),
    Case(
        "a file is gone",
        file(lambda c: (c / "src/deep/b").unlink()),
        COPY_SRC,
        field="file.removed",
        path="src/deep/b",
        was="file of 2 bytes",
    ),
    Case(
        "a file is ignored now",
        edit("*.tmp", "*.tmp\nsrc/deep/b", ".dockerignore"),
        COPY_SRC,
        field="file.ignored",
        path="src/deep/b",
        was="file of 2 bytes",
        now="ignored",
        note='.dockerignore line 3 ("src/deep/b")',
    ),
    Case(
        "a file is ignored no more",
        edit("**/*.log\n", "", ".dockerignore"),
        COPY_SRC,
        field="file.ignored",
        path="src/x.log",
        was="ignored",
        now="file of 2 bytes",
    ),
    Case(
        "a file behind a bind mount",
        file(lambda c: (c / "bound/c").write_text("cc\n")),
        RUN_MOUNTS,
        field="file.content",
        path="bound/c",
    ),
    Case(
        "a build argument",
        nothing,
        RUN_MOUNTS,
        field="arg.VERSION",
        was="1",
        now="2",
        note="Dockerfile:4",
        options=("--build-arg=VERSION=2",),
    ),
    Case(
        "default of an ARG",
        edit("VERSION=1", "VERSION=3"),
        RUN_MOUNTS,
        field="arg.VERSION",
        was="1",
        now="3",
        note="Dockerfile:4",
    ),
    Case(
        "a variable",
        edit("MODE=fast", "MODE=safe"),
        RUN_MOUNTS,
        field="env.MODE",
        was="fast",
        now="safe",
        note="Dockerfile:6",
    ),
    Case(
        "a new variable",
        edit("OTHER=1", "OTHER=1 MORE=2"),
        RUN_MOUNTS,
        field="env.MORE",
        now="2",
        note="Dockerfile:6",
    ),
    Case("a variable is gone", edit(" OTHER=1", ""), RUN_MOUNTS, field="env.OTHER", was="1"),
    Case(
        "order of variables",
        edit("MODE=fast OTHER=1", "OTHER=1 MODE=fast"),
        RUN_MOUNTS,
        field="env.order",
    ),
    Case(
        "a secret-looking argument",
        nothing,
        RUN_MOUNTS,
        field="arg.API_TOKEN",
        was="[redacted f52]",
        now="[redacted ebb]",
        note="Dockerfile:5",
        options=("--build-arg=API_TOKEN=swordfish2",),
    ),
    Case("the base image", rebase, "RUN mkdir", field="base", path="docker.io/library/base:latest"),
    Case(
        "the platform",
        nothing,
        "RUN mkdir",
        field="platform",
        was="linux/amd64",
        now="linux/amd64/v2",
        options=("--platform=linux/amd64/v2",),
    ),
    Case(
        "the command",
        edit("echo last", "echo least"),
        RUN_LAST,
        field="command",
        was="echo last",
        now="echo least",
    ),
    Case(
        "the shell",
        edit("USER root", 'USER root\nSHELL ["/bin/sh", "-ec"]'),
        RUN_LAST,
        field="shell",
        was="/bin/sh -c",
        now="/bin/sh -ec",
    ),
    Case(
        "the directory of a step",
        edit("USER root", "WORKDIR /\nUSER root"),
        RUN_LAST,
        field="workdir",
        was="/work",
        now="/",
    ),
    Case("the user", edit("USER root", "USER 0:0"), RUN_LAST, field="user", was="root", now="0:0"),
    Case(
        "the network",
        edit("--network=none", "--network=default"),
        RUN_LAST,
        field="network",
        was="none",
    ),
    Case(
        "a host name",
        nothing,
        "RUN mkdir",
        field="add-host",
        now="box",
        options=("--add-host=box:10.0.0.1",),
    ),
    Case(
        "a limit",
        nothing,
        "RUN mkdir",
        field="ulimit",
        now='[["nofile", 512, 512]]',
        options=("--ulimit=nofile=512",),
    ),
    Case(
        "a mount may be written",
        edit("target=/bound", "target=/bound,rw"),
        RUN_MOUNTS,
        field="mount.readonly",
        path="/bound",
        was="true",
    ),
    Case(
        "a mount elsewhere",
        edit("size=1m", "size=2m"),
        RUN_MOUNTS,
        field="mount.size",
        path="/t",
        was="1048576",
        now="2097152",
    ),
    Case(
        "another secret",
        edit("id=s", "id=other"),
        RUN_MOUNTS,
        field="mount.id",
        path="/s",
        was="s",
        now="other",
    ),
    Case(
        "a new mount",
        edit("--mount=type=secret", "--mount=type=cache,target=/c --mount=type=secret"),
        RUN_MOUNTS,
        field="mount.added",
        path="/c",
        now="cache",
    ),
    Case(
        "a mount is gone",
        edit("--mount=type=tmpfs,target=/t,size=1m", ""),
        RUN_MOUNTS,
        field="mount.removed",
        path="/t",
        was="tmpfs",
    ),
    Case(
        "mode of a copy",
        edit("--chmod=0644", "--chmod=0600"),
        "COPY --chown",
        field="chmod",
        was="0644",
        now="0600",
    ),
    Case(
        "owner of a copy",
        edit("--chown=1:1", "--chown=2:2"),
        "COPY --chown",
        field="chown",
        was="1:1",
        now="2:2",
    ),
    Case(
        "where a copy goes",
        edit("one.txt /one", "one.txt /uno"),
        "COPY --chown",
        field="dest",
        was="/one",
        now="/uno",
    ),
    Case(
        "what a copy leaves out",
        edit("COPY src/", "COPY --exclude=*.none src/"),
        "COPY --exclude",
        field="exclude",
        now="*.none",
    ),
    Case(
        "content of a here-document",
        edit("text\n", "other text\n"),
        "COPY <<EOF /here",
        field="file.content",
        path="EOF",
    ),
    Case(
        "where a WORKDIR is",
        edit("WORKDIR /work", "WORKDIR /elsewhere"),
        "WORKDIR",
        field="workdir",
        was="/work",
        now="/elsewhere",
    ),
    Case(
        "output of another stage",
        edit("echo tool >", "echo tools >"),
        "RUN mkdir",
        field="command",
        was="mkdir /out && echo tool > /out/tool",
        now="mkdir /out && echo tools > /out/tool",
    ),
    Case(
        "a step below",
        edit("USER root", "RUN true\nUSER root"),
        "RUN true",
        reason="new",
    ),
    Case("a step is new", edit("echo last\n", "echo last\nRUN true\n"), "RUN true", reason="new"),
    Case("its result was freed", prune, "RUN mkdir", reason="evicted"),
    Case("nobody looked", nothing, "RUN mkdir", reason="no-cache", options=("--no-cache",)),
]
