"""The inputs of a client's build: the Dockerfile and ignore files, read by its session [5.1]."""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pybuild.builds.contextfiles import MAX_DOCKERFILE_BYTES
from pybuild.builds.fetchedcontexts import FetchedContext, Fetching
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.builds.trees import NoDirectory
from pybuild.daemon.frontend.attrs import INPUT, LOCAL, Attrs, with_slashes
from pybuild.daemon.frontend.results import CONFIG
from pybuild.daemon.session.upload import HOST
from pybuild.engine.progress import InternalStep, internal_step
from pybuild.frontend.giturl import CONTEXT_FILE, is_http, parse_git_url, without_credentials
from pybuild.frontend.ignore import parse_ignore
from pybuild.frontend.lowering.contexts import VertexContext
from pybuild.frontend.lowering.paths import clean
from pybuild.frontend.lowering.policies import ruled_local
from pybuild.frontend.syntax.physical import excerpts
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import Copy, FileOp, HttpSource, ScratchSource, Vertex, VertexMeta

_IGNORE = ".dockerignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDockerfile:
    """A Dockerfile and its surroundings.

    Attributes:
        vertex: the step that read it, to which warnings belong.
        context: the vertex of a build context that is no directory of the client.
        excludes: by local source, the patterns of its ignore file.
        contexts: the named ones as written.
        context_trees: those of them that are inputs of the request.
    """

    data: bytes
    filename: str
    lines: Sequence[str]
    vertex: Digest
    context: Vertex | None
    excludes: Mapping[str, tuple[str, ...]]
    contexts: Mapping[str, str]
    context_trees: Mapping[str, VertexContext]


async def read_definition(
    scope: Scope, attrs: Attrs, inputs: Mapping[str, Vertex]
) -> ReadDockerfile:
    """Read it.

    Raises:
        UserError: there is no Dockerfile, or an ignore file is wrong.
    """
    fetching = Fetching(scope, scope.emit, attrs.policies, scope.decided)
    context: FetchedContext | None = None
    if "context" in inputs:
        context = FetchedContext(inputs["context"], await scope.snapshot(inputs["context"]))
    elif attrs.context:
        context = await load_context(scope, attrs, fetching)
    for name, session in attrs.local_sessions.items():
        scope.trees.use_session(name, session)
    scope.trees.call("context", attrs.context_key)
    reads_client = "dockerfile" not in inputs and (context is None or bool(attrs.dockerfile_key))
    if reads_client:
        await _check_local(scope, attrs, attrs.dockerfile_key)
    title = f"[internal] load build definition from {attrs.filename}"
    own_ignore: bytes | None = None
    async with internal_step(title, scope.emit, scope.engine.clock) as step:
        if "dockerfile" in inputs:
            tree = await scope.snapshot(inputs["dockerfile"])
            there = FetchedContext(inputs["dockerfile"], tree)
            data, filename = await fetching.dockerfile(there, attrs.filename)
        elif context is not None and not reads_client:
            data, filename = await fetching.dockerfile(context, attrs.filename)
        else:
            data, filename, own_ignore = await _from_client(scope, attrs, step)
    excludes: dict[str, tuple[str, ...]] = {}
    if context is None:
        await _check_local(scope, attrs, "context")
        if own_ignore is None:
            async with internal_step(
                f"[internal] load {_IGNORE}", scope.emit, scope.engine.clock
            ) as step:
                excludes["context"] = await _ignore(scope, attrs.context_key, step)
        else:
            excludes["context"] = _patterns(own_ignore)
    named: dict[str, VertexContext] = {}
    for name, value in attrs.named_contexts.items():
        if value.startswith(INPUT):
            key = value.removeprefix(INPUT)
            named[name] = input_context(name, key, attrs.input_metadata, inputs)
        if value.startswith(LOCAL):
            key = name.partition("::")[0]
            await _check_local(scope, attrs, key)
            scope.trees.call(key, value.removeprefix(LOCAL))
            title = f"[context {key}] load {_IGNORE}"
            async with internal_step(title, scope.emit, scope.engine.clock) as step:
                excludes[key] = await _ignore(scope, value.removeprefix(LOCAL), step)
    return ReadDockerfile(
        data=data,
        filename=filename,
        lines=excerpts(data),
        vertex=Digest.of(
            b"internal:" + f"[internal] load build definition from {attrs.filename}".encode()
        ),
        context=None if context is None else _scoped(context.vertex, attrs.context_subdir),
        excludes=excludes,
        contexts={
            name: "." if value.startswith((LOCAL, INPUT)) else with_slashes(value)
            for name, value in attrs.named_contexts.items()
        },
        context_trees=named,
    )


def input_context(
    name: str, key: str, metadata: Mapping[str, str], inputs: Mapping[str, Vertex]
) -> VertexContext:
    """Return the input *key* of a request as a named context.

    Args:
        metadata: of the inputs, by their keys, as clients write it.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    if key not in inputs:
        raise UserError(f"invalid input {key} for {name}")
    config: dict[str, Any] | None = None
    given = metadata.get(key)
    if given:
        try:
            config = json.loads(base64.b64decode(json.loads(given)[CONFIG]))
        except KeyError:
            pass
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"failed to parse the metadata of input {key}") from error
    return VertexContext(name.partition("::")[0], inputs[key], config)


async def _check_local(scope: Scope, attrs: Attrs, name: str) -> None:
    """Raise UserError if policies do not let the client's directory *name* be read."""
    if attrs.policies:
        await scope.decided(partial(ruled_local, attrs.policies, name))


def _scoped(context: Vertex, folder: str) -> Vertex:
    return below(context, folder) if folder else context


async def _from_client(
    scope: Scope, attrs: Attrs, step: InternalStep
) -> tuple[bytes, str, bytes | None]:
    """Return the Dockerfile, its name, and the ignore file that is its own."""
    name = posixpath.normpath(attrs.filename)
    candidates = [name, name + _IGNORE]
    if not attrs.named:
        candidates.append(posixpath.join(posixpath.dirname(name), "dockerfile"))
    files = await scope.trees.files(attrs.dockerfile_key, candidates, MAX_DOCKERFILE_BYTES, step)
    for candidate in (name, candidates[-1] if not attrs.named else name):
        if candidate in files:
            return files[candidate], posixpath.basename(candidate), files.get(candidate + _IGNORE)
    raise UserError(
        f"failed to read dockerfile: open {posixpath.basename(name)}: no such file or directory"
    )


async def _ignore(scope: Scope, local: str, step: InternalStep) -> tuple[str, ...]:
    """Return the patterns of a directory's ignore file; none where the client has no such
    directory, which matters only once something is copied from it."""
    try:
        files = await scope.trees.files(local, [_IGNORE], MAX_DOCKERFILE_BYTES, step)
    except NoDirectory:
        return ()
    return _patterns(files[_IGNORE]) if _IGNORE in files else ()


def _patterns(data: bytes) -> tuple[str, ...]:
    try:
        return parse_ignore(data)
    except PybuildError as error:
        raise UserError(f"failed parsing {_IGNORE}: {error.message}") from error


async def load_context(scope: Scope, attrs: Attrs, fetching: Fetching) -> FetchedContext:
    """Fetch ``attrs.context``.

    Raises:
        UserError: there is no such thing. EnvironmentFault: it is out of reach.
    """
    url = attrs.context
    if urlsplit(url).hostname == HOST:
        await fetching.check(HttpSource(url=url, filename=CONTEXT_FILE))
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
