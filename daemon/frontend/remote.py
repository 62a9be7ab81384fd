"""Contexts of clients that come from elsewhere: git, http(s), or an upload [7.2]."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

from pybuild.builds.contextkinds import git_context
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.attrs import Attrs
from pybuild.daemon.session.upload import HOST
from pybuild.executor.files.archives import is_archive
from pybuild.frontend.giturl import CONTEXT_FILE, is_http, parse_git_url, without_credentials
from pybuild.frontend.lowering.paths import clean
from pybuild.frontend.lowering.policies import ruled
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.ops import Copy, FileOp, GitSource, HttpSource, ScratchSource, Vertex, VertexMeta
from pybuild.model.snapshot import Snapshot

_HEAD_BYTES = 512
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """A fetched context.

    Attributes:
        dockerfile: the path of a context's only file, which is then the Dockerfile.
    """

    vertex: Vertex
    tree: Snapshot
    dockerfile: str = ""


async def load_context(scope: Scope, attrs: Attrs) -> RemoteContext:
    """Fetch ``attrs.context``.

    Raises:
        UserError: there is no such thing. EnvironmentFault: it is out of reach.
    """
    url = attrs.context
    if urlsplit(url).hostname == HOST:
        return await _uploaded(scope, url)
    if parse_git_url(url, is_context=True) is not None:
        git = git_context(url).source(
            keep_git_dir=attrs.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in _TRUE,
            mtime="commit" if attrs.build_args.get("SOURCE_DATE_EPOCH") else "",
        )
        name = f"[internal] load git source {without_credentials(url)}"
        source = await scope.decided(partial(_ruled, attrs, git))
        vertex = Vertex(source, meta=VertexMeta(name=name))
        return RemoteContext(vertex, await scope.snapshot(vertex))
    if is_http(url):
        op = HttpSource(url=url, filename=CONTEXT_FILE)
        source = await scope.decided(partial(_ruled, attrs, op))
        return await _file(scope, source, "[internal] load remote build context")
    raise UserError(f"invalid context {without_credentials(url)}")


def below(context: Vertex, folder: str) -> Vertex:
    """Return a directory of *context* as a context of its own (``contextsubdir``)."""
    copy = Copy(input=1, source=clean(folder), dest="/")
    return Vertex(
        FileOp(actions=(copy,)),
        (Vertex(ScratchSource()), context),
        VertexMeta(name=f"[internal] take {folder} of the build context"),
    )


async def _uploaded(scope: Scope, url: str) -> RemoteContext:
    op = await scope.adopt_upload(urlsplit(url).path.strip("/"), CONTEXT_FILE)
    return await _file(scope, op, "[internal] load build context from the client")


def _ruled(attrs: Attrs, op: GitSource | HttpSource) -> GitSource | HttpSource:
    return ruled(attrs.policies, op) if attrs.policies else op


async def _file(scope: Scope, op: GitSource | HttpSource, name: str) -> RemoteContext:
    """An archive is unpacked; anything else is the Dockerfile."""
    vertex = Vertex(op, meta=VertexMeta(name=name))
    tree = await scope.snapshot(vertex)
    head = await scope.read(tree, CONTEXT_FILE, _HEAD_BYTES) or b""
    if not is_archive(head):
        return RemoteContext(vertex, tree, CONTEXT_FILE)
    copy = Copy(input=1, source="/" + CONTEXT_FILE, dest="/", unpack=True)
    unpacked = Vertex(
        FileOp(actions=(copy,)),
        (Vertex(ScratchSource()), vertex),
        VertexMeta(name="[internal] unpack build context"),
    )
    return RemoteContext(unpacked, await scope.snapshot(unpacked))
