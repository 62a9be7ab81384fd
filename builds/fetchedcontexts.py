"""Contexts that are fetched, from git, http(s) or as an archive, and Dockerfiles in them [CTX-1].

They become vertices that are solved like any other, so what was fetched and unpacked once is found
again by its commit or its bytes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from pybuild.builds.contextfiles import DOCKERFILES, MAX_DOCKERFILE_BYTES
from pybuild.builds.contextkinds import git_context
from pybuild.builds.verdicts import Decided, in_place
from pybuild.executor.files.archives import is_archive
from pybuild.frontend.giturl import CONTEXT_FILE, without_credentials
from pybuild.frontend.lowering.policies import ruled
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.events import Emit
from pybuild.model.ops import Copy, FileOp, GitSource, HttpSource, ScratchSource, Vertex, VertexMeta
from pybuild.model.policy import Policies
from pybuild.model.snapshot import Snapshot
from pybuild.model.text import boolean

_HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class FetchedContext:
    """A context that is not where the client is.

    Attributes:
        dockerfile: the path of a context's only file, which is then the Dockerfile.
    """

    vertex: Vertex
    tree: Snapshot
    dockerfile: str = ""


class Trees(Protocol):
    """Makes the trees of one build, and reads in them."""

    async def tree(self, vertex: Vertex, emit: Emit) -> Snapshot:
        """Return the tree of *vertex*.

        Raises:
            UserError, EnvironmentFault: it cannot be fetched.
        """
        ...

    async def read(self, tree: Snapshot, path: str, limit: int) -> bytes | None:
        """Return at most *limit* bytes of a file of *tree*; None when it is not there."""
        ...


class Fetching:
    """The fetched contexts of one build.

    Args:
        policies: judge what is fetched.
    """

    def __init__(
        self, trees: Trees, emit: Emit, policies: Policies | None, decided: Decided = in_place
    ) -> None:
        self._trees = trees
        self._emit = emit
        self._policies = policies
        self._decided = decided

    async def git(self, url: str, build_args: Mapping[str, str]) -> FetchedContext:
        """Fetch a repository."""
        op = git_context(url).source(
            keep_git_dir=boolean(build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "")) is True,
            mtime="commit" if build_args.get("SOURCE_DATE_EPOCH") else "",
        )
        name = f"[internal] load git source {without_credentials(url)}"
        vertex = Vertex(await self._ruled(op), meta=VertexMeta(name=name))
        return FetchedContext(vertex, await self._trees.tree(vertex, self._emit))

    async def http(self, url: str) -> FetchedContext:
        """Fetch a file; an archive is the context, any other file its Dockerfile."""
        op = await self._ruled(HttpSource(url=url, filename=CONTEXT_FILE))
        vertex = Vertex(op, meta=VertexMeta(name="[internal] load remote build context"))
        return await self.file(vertex)

    async def file(self, vertex: Vertex) -> FetchedContext:
        """Return the context that the file of *vertex* is; as `http`."""
        tree = await self._trees.tree(vertex, self._emit)
        head = await self._trees.read(tree, CONTEXT_FILE, _HEAD_BYTES) or b""
        if is_archive(head):
            return await self.unpacked(vertex)
        return FetchedContext(vertex, tree, CONTEXT_FILE)

    async def unpacked(self, archive: Vertex) -> FetchedContext:
        """Return the context in an archive."""
        copy = Copy(input=1, source="/" + CONTEXT_FILE, dest="/", unpack=True)
        vertex = Vertex(
            FileOp(actions=(copy,)),
            (Vertex(ScratchSource()), archive),
            VertexMeta(name="[internal] unpack build context"),
        )
        return FetchedContext(vertex, await self._trees.tree(vertex, self._emit))

    async def remote_file(self, url: str, filename: str, title: str) -> bytes:
        """Fetch a file that is read as a Dockerfile; *title* is its name for people."""
        op = await self._ruled(HttpSource(url=url, filename=filename))
        vertex = Vertex(op, meta=VertexMeta(name=f"[internal] load {title}"))
        tree = await self._trees.tree(vertex, self._emit)
        return _bounded(await self._read(tree, filename) or b"", title)

    async def dockerfile(self, context: FetchedContext, filename: str) -> tuple[bytes, str]:
        """Return the Dockerfile *filename* of a context, and its name there.

        Raises:
            UserError: there is none, or it is too large.
        """
        name = context.dockerfile or posixpath.normpath(filename)
        names = [name]
        if posixpath.basename(name) == DOCKERFILES[0]:
            names += [posixpath.join(posixpath.dirname(name), one) for one in DOCKERFILES[1:]]
        for one in names:
            data = await self._read(context.tree, one)
            if data is not None:
                return _bounded(data, one), one
        raise UserError(
            f"failed to read dockerfile: open {name}: no such file or directory",
            hints=["name another file of the context with -f"],
        )

    async def _read(self, tree: Snapshot, path: str) -> bytes | None:
        return await self._trees.read(tree, path, MAX_DOCKERFILE_BYTES + 1)

    async def check(self, op: HttpSource) -> None:
        """Raise UserError if policies refuse *op*, or would have another in its place."""
        if await self._ruled(op) != op:
            raise UserError(f'source policy: "{op.url}" cannot be replaced here')

    async def _ruled(self, op: GitSource | HttpSource) -> GitSource | HttpSource:
        if not self._policies:
            return op
        return await self._decided(partial(ruled, self._policies, op))


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_DOCKERFILE_BYTES:
        limit = f"{MAX_DOCKERFILE_BYTES >> 20} MiB"
        raise UserError(f"failed to read dockerfile: {name}: larger than {limit}")
    return data
