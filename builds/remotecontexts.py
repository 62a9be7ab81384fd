"""The inputs of a build on this machine that are not all at hand: some must be fetched [CTX-1]."""

from __future__ import annotations

import os

from pybuild.builds.contextkinds import ContextKind, kind_of
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
from pybuild.builds.fetchedcontexts import FetchedContext, Fetching
from pybuild.builds.request import BuildRequest
from pybuild.builds.sources import BuildSources
from pybuild.builds.standardinput import StandardInput
from pybuild.engine.abandonable import abandonable
from pybuild.frontend.giturl import CONTEXT_FILE, file_name, is_http
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.events import Emit
from pybuild.model.ops import HttpSource, Vertex, VertexMeta
from pybuild.model.snapshot import LocalTree
from pybuild.net.http1.faults import shown_url


async def load_remote_inputs(
    request: BuildRequest, stdin: StandardInput, sources: BuildSources, emit: Emit
) -> BuildInputs:
    """Read the inputs of a build, fetching those that are not at hand.

    Raises:
        UserError: there is no such context or Dockerfile. EnvironmentFault: it is out of reach.
    """
    files: Files = {}
    trees, others = await abandonable(named_contexts, request, files)
    fetching = Fetching(sources, emit, request.policies)
    context: FetchedContext | None = None
    match kind_of(request.context):
        case ContextKind.DIRECTORY:
            trees["context"] = await abandonable(_directory, request, files)
        case ContextKind.GIT:
            context = await fetching.git(request.context, request.build_args)
        case ContextKind.HTTP:
            context = await fetching.http(request.context)
        case ContextKind.STANDARD_INPUT:
            context = await fetching.unpacked(await _standard_input(request, stdin, sources))
    dockerfile, filename = await _dockerfile(request, stdin, fetching, context)
    return BuildInputs(
        dockerfile=dockerfile,
        filename=filename,
        context=context.vertex if context else None,
        trees=trees,
        others=others,
    )


def _directory(request: BuildRequest, files: Files) -> LocalTree:
    check_directory(request.context)
    return local_context(request, request.context, None, files)


async def _standard_input(
    request: BuildRequest, stdin: StandardInput, sources: BuildSources
) -> Vertex:
    """Return the archive that standard input holds."""
    if request.dockerfile == "-":
        raise UserError(BOTH_STDIN)
    if not await abandonable(stdin.is_archive):
        raise UserError(AMBIGUOUS)
    store = sources.store
    path = store.scratch("stdin")
    try:
        sha256, size = await abandonable(stdin.copy_to, path)
        checksum = Digest.from_hex(sha256)
        op = HttpSource(url="stdin:", checksum=checksum, filename=CONTEXT_FILE)
        await sources.remote.http.adopt(path, size, op)
    finally:
        store.discard(path)
    name = "[internal] load build context from standard input"
    return Vertex(op, meta=VertexMeta(name=name))


async def _dockerfile(
    request: BuildRequest,
    stdin: StandardInput,
    fetching: Fetching,
    context: FetchedContext | None,
) -> tuple[bytes, str]:
    """Return the Dockerfile and its name."""
    given = request.dockerfile
    if request.dockerfile_text is not None:
        return request.dockerfile_text, "Dockerfile"
    if given == "-":
        return await abandonable(stdin.text), "Dockerfile"
    if is_http(given):
        return await fetching.remote_file(given, "Dockerfile", shown_url(given)), file_name(given)
    if context is None:
        raise AssertionError("a local Dockerfile of a local context is at hand")
    if os.path.isabs(given):  # ours, as opposed to the context's [CTX-6]
        return await abandonable(read_dockerfile, given, None, {}), given
    return await fetching.dockerfile(context, given or "Dockerfile")
