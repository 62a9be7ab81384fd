"""Random graphs of file, exec, merge and diff ops, made by two build servers: their trees are to be equal.

    REFERENCE=unix:///path/buildkitd.sock PYBUILD=unix:///path/pybuild.sock \\
    IMAGE=HOST/busybox@sha256:… python -m tests.conformance.llbfuzz FIRST LAST

By hand, never in CI: it needs the reference, a server of ours, and a registry that both reach with an image of
busybox. Each number from FIRST to LAST is the seed of one graph. Prints the seeds whose trees differ, and how.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb import control as pb
from pybuild.client.files import archive_opener
from pybuild.client.filesend import ToStream, file_send
from pybuild.client.session import ClientSession
from pybuild.engine.host import native_platform
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    Copy,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    ImageSource,
    MergeOp,
    Mkdir,
    Mkfile,
    Mount,
    Rm,
    ScratchSource,
    Symlink,
    Vertex,
)
from pybuild.model.reference import Reference
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import RpcError

_SOLVE = "/moby.buildkit.v1.Control/Solve"
_TIME = 1_500_000_000
_RECENT = 1_700_000_000  # times from here on are those of the build itself
_NAMES, _FOLDERS = ("c", "d", "e", "f"), ("a", "b")
# Faults of the reference with results that are empty trees.
_THEIR_FAULTS = ("0 index but 0 results received", ":: /*: no such file or directory")


class Grower:
    """Grows one graph."""

    def __init__(self, seed: int, image: Vertex) -> None:
        self._random = random.Random(seed)
        self._image = image
        self._number = 0
        self._known: list[Vertex] = [self._with_file(Vertex(ScratchSource()))]

    def graph(self) -> Vertex:
        """Return the last vertex of a graph."""
        makes = (self._file, self._file, self._exec, self._merge, self._diff)
        for _ in range(self._random.randint(3, 9)):
            self._known.append(self._random.choice(makes)())
        return self._known[-1]

    def _some(self) -> Vertex:
        """One of the vertices so far, the later the likelier."""
        return self._known[max(self._random.randrange(len(self._known)) for _ in range(2))]

    def _path(self, most: int = 3) -> str:
        """A path whose parents are seldom anything but directories: most graphs are to be made."""
        parents = [self._random.choice(_FOLDERS) for _ in range(self._random.randrange(most))]
        last = self._random.choice(_NAMES if self._random.random() < 0.9 else _FOLDERS)
        return "/" + "/".join((*parents, last))

    def _file(self) -> Vertex:
        inputs = [self._some()]
        actions = tuple(self._action(inputs) for _ in range(self._random.randint(1, 3)))
        return Vertex(FileOp(actions=actions), tuple(inputs))

    def _action(self, inputs: list[Vertex]) -> FileAction:
        mode = self._random.choice((0o644, 0o600, 0o755, 0o700))
        match self._random.choice(("mkfile", "mkfile", "mkdir", "rm", "copy", "copy", "symlink")):
            case "mkfile":
                data = self._random.choice((b"", b"x", b"yy"))
                return Mkfile(path=self._path(), data=data, mode=mode, mtime=_TIME)
            case "mkdir":
                return Mkdir(path=self._path(), mode=mode | 0o700, mtime=_TIME)
            case "rm":
                return Rm(path=self._path(), allow_not_found=self._random.random() < 0.98)
            case "symlink":
                return Symlink(path=self._path(1) + "l", target=self._path(), mtime=_TIME)
            case _:
                inputs.append(self._some())
                return Copy(
                    input=len(inputs) - 1,
                    source=self._random.choice(("/", "/*", "/*", self._path())),
                    dest=self._path() + self._random.choice(("l", "/")),
                    wildcard=True,
                    allow_empty=self._random.random() < 0.98,
                    contents_only=self._random.random() < 0.5,
                )

    def _exec(self) -> Vertex:
        lines = [self._line() for _ in range(self._random.randint(1, 3))]
        script = "cd /m; " + "; ".join(lines) + "; true"
        op = ExecOp(
            args=("sh", "-c", script),
            env=("PATH=/bin",),
            cwd="/",
            mounts=(Mount(target="/", input=0), Mount(target="/m", input=1, output=True)),
            platform=native_platform(),
        )
        return Vertex(op, (self._image, self._some()))

    def _line(self) -> str:
        one, other = self._path()[1:], self._path()[1:]
        at = f"touch -d @{_TIME}"
        return self._random.choice(
            (
                f"mkdir -p {one} && echo 1 > {one}/f; {at} {one}/f",
                f"rm -rf {one}",
                f"rm -rf {one}; mkdir {one}; echo 2 > {one}/g; {at} {one}/g",
                f"mv {one} {other}",
                f"chmod 711 {one}",
                f"chmod 4711 {one}",
                f"chown 7:8 {one}",
                f"ln -s {one} {other}; true",
                f"echo 3 > {one}; {at} {one}",
                f"ln {one} {other}",
                f"{at} {one}",
                f"mkfifo {one}",
            )
        )

    def _merge(self) -> Vertex:
        some = dict.fromkeys(self._some() for _ in range(self._random.randint(2, 4)))
        return self._with_file(Vertex(MergeOp(), tuple(some))) if len(some) > 1 else self._file()

    def _diff(self) -> Vertex:
        return self._with_file(Vertex(DiffOp(), (self._some(), self._some())))

    def _with_file(self, vertex: Vertex) -> Vertex:
        """Add a file: the reference panics on inputs that are empty trees."""
        self._number += 1
        action = Mkfile(path=f"/k{self._number}", data=b"", mtime=_TIME)
        return Vertex(FileOp(actions=(action,)), (vertex,))


@dataclass
class Server:
    """A build server."""

    channel: Channel

    async def tree(self, result: Vertex) -> list[str]:
        """Return the lines of a listing of the tree that *result* gives; or that it gives none."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "t.tar")
            request = pb.SolveRequest(
                Ref=os.urandom(8).hex(),
                Definition=write(result),
                Exporters=[pb.Exporter(Type="tar")],
                ExporterDeprecated="tar",
            )
            handlers = file_send({0: ToStream(archive_opener(path))})
            async with ClientSession(handlers).open(self.channel) as session:
                request.Session = session.id
                try:
                    await self.channel.unary(_SOLVE, request.SerializeToString(), timeout=100)
                except RpcError as error:
                    return [f"failed: {error.message}"]
            return await asyncio.to_thread(listing, path)


def listing(path: str) -> list[str]:
    """Return a line for each entry of an archive, sorted by its name."""
    lines: list[str] = []
    with tarfile.open(path) as archive:
        for entry in archive:
            data = archive.extractfile(entry) if entry.isreg() else None
            content = hashlib.sha256(data.read()).hexdigest()[:8] if data else ""
            time = "now" if entry.mtime >= _RECENT else str(int(entry.mtime))
            if (
                entry.isdir()
            ):  # parents that are made have the action's time here, there that of their entries
                time = ""
            name = entry.name.strip("./")
            kind = entry.type.decode()
            facts = (oct(entry.mode), entry.uid, entry.gid, time, entry.linkname, content)
            if name:
                lines.append(f"{name} {kind} " + " ".join(map(str, facts)))
    return sorted(lines)


def described(result: Vertex) -> str:
    """Return the graph as text, for people."""
    from pybuild.model.ops import walk

    known = list(walk(result))
    lines: list[str] = []
    for vertex in known:
        op = vertex.op
        text = op.args[-1] if isinstance(op, ExecOp) else type(op).__name__
        if isinstance(op, FileOp):
            text = "; ".join(map(_shortly, op.actions))
        inputs = [known.index(one) for one in vertex.inputs]
        lines.append(f"  {known.index(vertex)}: {text} <- {inputs}")
    return "\n".join(lines)


def _shortly(action: FileAction) -> str:
    fields = {name: getattr(action, name) for name in action.__slots__}
    told = {name: value for name, value in fields.items() if value and name != "mtime"}
    return f"{type(action).__name__}({', '.join(f'{n}={v}' for n, v in told.items())})"


async def main(first: int, last: int) -> int:
    """Compare the graphs of these seeds; return the number of those that differ."""
    text = os.environ["IMAGE"]
    reference = Reference.parse(text)
    assert reference.digest is not None
    source = ImageSource(digest=reference.digest, reference=reference, platform=native_platform())
    image = Vertex(source)
    servers = [Server(await Channel.connect(os.environ[name])) for name in ("REFERENCE", "PYBUILD")]
    differing = failing = their_faults = 0
    for seed in range(first, last):
        result = Grower(seed, image).graph()
        try:
            theirs, ours = await asyncio.gather(*(one.tree(result) for one in servers))
        except UserError as error:
            print(f"seed {seed}: cannot be written: {error.message}", flush=True)
            continue
        if any(fault in line for line in theirs for fault in _THEIR_FAULTS):
            their_faults += 1
            continue
        both_fail = (
            theirs[:1] and ours[:1] and all(x[0].startswith("failed") for x in (theirs, ours))
        )
        failing += bool(both_fail)
        if theirs != ours and not both_fail:
            differing += 1
            print(f"seed {seed} differs:\n{described(result)}")
            print("\n".join(f"  - {line}" for line in theirs if line not in ours))
            print("\n".join(f"  + {line}" for line in ours if line not in theirs), flush=True)
    print(
        f"{last - first} graphs, {differing} differ, {failing} fail with both,"
        f" {their_faults} the reference cannot make"
    )
    for one in servers:
        await one.channel.close()
    return differing


def _numbers(words: Sequence[str]) -> tuple[int, int]:
    first, last = map(int, words)
    return first, last


if __name__ == "__main__":
    sys.exit(bool(asyncio.run(main(*_numbers(sys.argv[1:])))))
