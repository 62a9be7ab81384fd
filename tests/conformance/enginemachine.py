"""The machines that sessions run on: their images, and what runs a line of shell there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.session import Answer, answer
from tests.harness import BUSYBOX, ROOT, Pybuild, write

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 120
_TOOLS = [
    "sh",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "nc",
    "nslookup",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sleep",
    "sort",
    "stat",
    "stty",
    "tail",
    "tar",
    "test",
    "touch",
    "tr",
    "true",
    "tty",
    "wc",
    "wget",
]
_IMAGES = {
    "base": 'FROM scratch\nCOPY root/ /\nCMD ["sh"]\n',
    "full": """\
FROM base
RUN mkdir -p /data/sub && echo seed > /data/file && chown -R 1000:1000 /data
ENV GREETING=hello EMPTY=
LABEL org.example.a=1 org.example.b="two words"
EXPOSE 80 53/udp
VOLUME /data
USER app
WORKDIR /work
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=1h --timeout=3s --retries=2 CMD test -e /tmp/well
ONBUILD RUN true
ENTRYPOINT ["echo", "entry"]
CMD ["cmd"]
""",
    "shell": """\
FROM base
ENTRYPOINT echo "$0 $GREETING" "$@"
CMD cmd
""",
    "bare": "FROM base\nCMD []\n",
}


def make_images(pybuild: Pybuild, where: Path) -> list[str]:
    """Build the images of all sessions, and return their names."""
    root = where / "root"
    for directory in ("bin", "etc", "root"):
        (root / directory).mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "bin/busybox").write_bytes(Path(str(BUSYBOX)).read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for tool in _TOOLS:
        (root / "bin" / tool).symlink_to("busybox")
    users = ("root:x:0:0:root:/root:/bin/sh", "app:x:1000:1000::/home/app:/bin/sh")
    (root / "etc/passwd").write_text("\n".join([*users, "other:x:1001:1000::/:/bin/sh", ""]))
    groups = ("root:x:0:", "app:x:1000:", "extra:x:2000:app,other")
    (root / "etc/group").write_text("\n".join([*groups, ""]))
    for name, text in _IMAGES.items():
        context = write(where / "context" if name != "base" else where, Dockerfile=text)
        pybuild("build", "-q", "-t", name, context)
    return list(_IMAGES)


@dataclass(frozen=True)
class Machine:
    """Runs lines of shell, in which ``docker`` is a program of choice.

    Attributes:
        program: the words that stand for ``docker``.
        enter: the words in front, which enter the machine's network.
        roots: directories whose names differ, see `answer`.
    """

    program: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    enter: Sequence[str] = ()
    roots: Mapping[str, str] = field(default_factory=dict[str, str])

    def ask(self, line: str) -> Answer:
        """Run a line of shell."""
        out, err, status = self.run(line)
        return answer(
            line, out.decode(errors="replace"), err.decode(errors="replace"), status, self.roots
        )

    def run(self, line: str) -> tuple[bytes, bytes, int]:
        """Run a line of shell; return what it wrote to both streams, and its status."""
        words = " ".join(f"'{word}'" for word in self.program)
        done = subprocess.run(
            [*self.enter, "sh", "-c", f'docker() {{ {words} "$@"; }}; {line}'],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return done.stdout, done.stderr, done.returncode


@dataclass(frozen=True, kw_only=True)
class WarmMachine(Machine):
    """Runs lines that are one command each in forks of a process that has pybuild's modules."""

    warm: subprocess.Popen[bytes]

    def run(self, line: str) -> tuple[bytes, bytes, int]:
        words = _one_command(line)
        if words is None:
            return super().run(line)
        files = [self.directory.parent / name for name in ("out", "err")]
        assert self.warm.stdin is not None
        assert self.warm.stdout is not None
        self.warm.stdin.write(json.dumps([words, *map(str, files)]).encode() + b"\n")
        self.warm.stdin.flush()
        status = int(self.warm.stdout.readline())
        out, err = (file.read_bytes() for file in files)
        return out, err, status if status >= 0 else 128 - status


def _one_command(line: str) -> Sequence[str] | None:
    """Return the words of a line that is one command of ``docker`` and asks nothing else of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    first, *words = lexer
    quoted = re.sub(r"'[^']*'", "", line)
    return None if first != "docker" or set(quoted) & set('$`"\\|&;<>()*?[') else words


CLEAN = """\
ids=$(docker ps -aq); [ -z "$ids" ] || docker rm -fv $ids
names=$(docker volume ls -q); [ -z "$names" ] || docker volume rm $names
names=$(docker network ls -q --filter type=custom); [ -z "$names" ] || docker network rm $names
"""
"""Removes what a session left."""


@contextmanager
def ours(pybuild: Pybuild, directory: Path, enter: Sequence[str] = ()) -> Generator[Machine]:
    """Yield the machine on which ``docker`` is pybuild."""
    # Without `site`: what development installs there takes longer than most commands.
    python = [sys.executable, "-S", "-P"]
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment = {**pybuild.environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *packages])}
    roots = {str(pybuild.store): "<root>", str(directory): "<here>"}
    with subprocess.Popen(
        [*enter, *python, str(HERE / "warmpybuild.py")],
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as warm:
        yield WarmMachine(
            [*python, "-m", "pybuild"], directory, environment, enter, roots, warm=warm
        )
        assert warm.stdin is not None
        warm.stdin.close()
