"""Contexts and Dockerfiles that must be fetched: git, http(s), archives on standard input [CTX-1].

They become vertices that are solved like any other, so what was fetched and unpacked once is found
again by its commit or its bytes.
"""

from __future__ import annotations

import os
import posixpath

from pybuild.builds.contextfiles import MAX_DOCKERFILE_BYTES
from pybuild.builds.contextkinds import ContextKind, git_context, kind_of
from pybuild.builds.contexts import (
    AMBIGUOUS,
    BOTH_STDIN,
    BuildInputs,
    Files,
    check_directory,
    local_context,
    named_contexts,
    read_dockerfile,
)
from pybuild.builds.request import BuildRequest
from pybuild.builds.sources import BuildSources
from pybuild.builds.standardinput import StandardInput
from pybuild.engine.abandonable import abandonable
from pybuild.executor.files.archives import is_archive
from pybuild.executor.sources.download import shown_url
from pybuild.frontend.giturl import CONTEXT_FILE, file_name, is_http, without_credentials
from pybuild.frontend.lowering.policies import ruled
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.events import Emit
from pybuild.model.ops import Copy, FileOp, GitSource, HttpSource, ScratchSource, Vertex, VertexMeta
from pybuild.model.snapshot import LocalTree, Snapshot

_HEAD = 512
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))


@dataclass(frozen=True, slots=True)
class _Context:
    """A fetched context: its vertex and tree.

    Attributes:
        dockerfile: the path of a context's only file, which is then the Dockerfile.
    """

    vertex: Vertex
    tree: Snapshot
    dockerfile: str = ""


async def load_from_elsewhere(
    request: BuildRequest, stdin: StandardInput, sources: BuildSources, emit: Emit
) -> BuildInputs:
    """Read the inputs of a build, fetching those that are not at hand.

    Raises:
        UserError: there is no such context or Dockerfile. EnvironmentFault: it is out of reach.
    """
    loader = _Loader(request, stdin, sources, emit)
    return await loader.load()


class _Loader:
    def __init__(
        self, request: BuildRequest, stdin: StandardInput, sources: BuildSources, emit: Emit
    ) -> None:
        self._request = request
        self._stdin = stdin
        self._sources = sources
        self._emit = emit

    async def load(self) -> BuildInputs:
        files: Files = {}
        trees, others = await abandonable(named_contexts, self._request, files)
        context: _Context | None = None
        kind = kind_of(self._request.context)
        match kind:
            case ContextKind.DIRECTORY:
                trees["context"] = await abandonable(self._directory, files)
            case ContextKind.GIT:
                context = await self._git()
            case ContextKind.HTTP:
                context = await self._http()
            case ContextKind.STANDARD_INPUT:
                context = await self._standard_input()
        dockerfile, filename = await self._dockerfile(context)
        return BuildInputs(
            dockerfile=dockerfile,
            filename=filename,
            context=context.vertex if context else None,
            trees=trees,
            others=others,
        )

    # --- contexts ---------------------------------------------------------------------------------

    def _directory(self, files: Files) -> LocalTree:
        check_directory(self._request.context)
        return local_context(self._request, self._request.context, None, files)

    async def _git(self) -> _Context:
        text, args = self._request.context, self._request.build_args
        op = git_context(text).source(
            keep_git_dir=args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in _TRUE,
            mtime="commit" if args.get("SOURCE_DATE_EPOCH") else "",
        )
        name = f"[internal] load git source {without_credentials(text)}"
        vertex = Vertex(self._ruled(op), meta=VertexMeta(name=name))
        return _Context(vertex, await self._sources.tree(vertex, self._emit))

    async def _http(self) -> _Context:
        op = HttpSource(url=self._request.context, filename=CONTEXT_FILE)
        vertex = Vertex(
            self._ruled(op), meta=VertexMeta(name="[internal] load remote build context")
        )
        tree = await self._sources.tree(vertex, self._emit)
        head = await self._sources.read(tree, CONTEXT_FILE, _HEAD) or b""
        if is_archive(head):
            return await self._unpacked(vertex)
        return _Context(vertex, tree, CONTEXT_FILE)

    def _ruled(self, op: GitSource | HttpSource) -> GitSource | HttpSource:
        policies = self._request.policies
        return ruled(policies, op) if policies else op

    async def _standard_input(self) -> _Context:
        if self._request.dockerfile == "-":
            raise UserError(BOTH_STDIN)
        if not await abandonable(self._stdin.is_archive):
            raise UserError(AMBIGUOUS)
        store = self._sources.store
        path = store.scratch("stdin")
        try:
            sha256, size = await abandonable(self._stdin.copy_to, path)
            op = await self._sources.remote.http.adopt(
                path, sha256, size, url="stdin:", filename=CONTEXT_FILE
            )
        finally:
            store.discard(path)
        name = "[internal] load build context from standard input"
        return await self._unpacked(Vertex(op, meta=VertexMeta(name=name)))

    async def _unpacked(self, archive: Vertex) -> _Context:
        copy = Copy(input=1, source="/" + CONTEXT_FILE, dest="/", unpack=True)
        vertex = Vertex(
            FileOp(actions=(copy,)),
            (Vertex(ScratchSource()), archive),
            VertexMeta(name="[internal] unpack build context"),
        )
        return _Context(vertex, await self._sources.tree(vertex, self._emit))

    # --- the Dockerfile ---------------------------------------------------------------------------

    async def _dockerfile(self, context: _Context | None) -> tuple[bytes, str]:
        """Return its bytes and its name."""
        given = self._request.dockerfile
        if self._request.dockerfile_text is not None:
            return self._request.dockerfile_text, "Dockerfile"
        if given == "-":
            return await abandonable(self._stdin.text), "Dockerfile"
        if is_http(given):
            return await self._dockerfile_of_url(given)
        if context is None:
            raise AssertionError("a local Dockerfile of a local context is at hand")
        if os.path.isabs(given):  # ours, as opposed to the context's [CTX-6]
            return await abandonable(read_dockerfile, given, None, {}), given
        return await self._dockerfile_in(context)

    async def _dockerfile_of_url(self, url: str) -> tuple[bytes, str]:
        op = HttpSource(url=url, filename="Dockerfile")
        shown = shown_url(url)
        vertex = Vertex(self._ruled(op), meta=VertexMeta(name=f"[internal] load {shown}"))
        tree = await self._sources.tree(vertex, self._emit)
        data = await self._sources.read(tree, "Dockerfile", MAX_DOCKERFILE_BYTES + 1) or b""
        return _bounded(data, shown), file_name(url)

    async def _dockerfile_in(self, context: _Context) -> tuple[bytes, str]:
        name = context.dockerfile or posixpath.normpath(self._request.dockerfile or "Dockerfile")
        names = [name]
        if posixpath.basename(name) == "Dockerfile":
            names.append(posixpath.join(posixpath.dirname(name), "dockerfile"))
        for one in names:
            data = await self._sources.read(context.tree, one, MAX_DOCKERFILE_BYTES + 1)
            if data is not None:
                return _bounded(data, one), one
        raise UserError(
            f"failed to read dockerfile: open {name}: no such file or directory",
            hints=["name another file of the context with -f"],
        )


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_DOCKERFILE_BYTES:
        raise UserError(f"failed to read dockerfile: {name}: larger than 64 MiB")
    return data
