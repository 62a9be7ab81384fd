"""Contexts of clients that come from elsewhere: git, http(s), or an upload [7.2]."""

from __future__ import annotations

from urllib.parse import urlsplit

from pybuild.builds.fetchedcontexts import FetchedContext, Fetching
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.attrs import Attrs
from pybuild.daemon.session.upload import HOST
from pybuild.frontend.giturl import CONTEXT_FILE, is_http, parse_git_url, without_credentials
from pybuild.frontend.lowering.paths import clean
from pybuild.model.errors import UserError
from pybuild.model.ops import Copy, FileOp, ScratchSource, Vertex, VertexMeta


async def load_context(scope: Scope, attrs: Attrs, fetching: Fetching) -> FetchedContext:
    """Fetch ``attrs.context``.

    Raises:
        UserError: there is no such thing. EnvironmentFault: it is out of reach.
    """
    url = attrs.context
    if urlsplit(url).hostname == HOST:
        op = await scope.adopt_upload(urlsplit(url).path.strip("/"), CONTEXT_FILE)
        name = "[internal] load build context from the client"
        return await fetching.file(Vertex(op, meta=VertexMeta(name=name)))
    if parse_git_url(url, is_context=True) is not None:
        return await fetching.git(url, attrs.build_args)
    if is_http(url):
        return await fetching.http(url)
    raise UserError(f"invalid context {without_credentials(url)}")


def below(context: Vertex, folder: str) -> Vertex:
    """Return a directory of *context* as a context of its own (``contextsubdir``)."""
    copy = Copy(input=1, source=clean(folder), dest="/")
    return Vertex(
        FileOp(actions=(copy,)),
        (Vertex(ScratchSource()), context),
        VertexMeta(name=f"[internal] take {folder} of the build context"),
    )
