"""Source policies, applied to the sources that a build names [POL-3].

Sources are put in the words of LLB for the policies to judge, and back when one has changed something.
Whatever is named is asked about before it is fetched, so what is refused is never contacted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pybuild.frontend.giturl import file_name, is_http, parse_git_url, without_credentials
from pybuild.frontend.lowering import paths
from pybuild.frontend.lowering.contexts import (
    ImageContext,
    LocalContext,
    NamedContext,
    RemoteContext,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import GitSource, HttpSource
from pybuild.model.platform import Platform
from pybuild.model.policy import Policies, PolicySource
from pybuild.model.reference import Reference

IMAGE, LAYOUT, LOCAL, GIT = "docker-image://", "oci-layout://", "local://", "git://"
Remote = GitSource | HttpSource


def ruled_image(policies: Policies, reference: Reference, platform: Platform) -> Reference:
    """Return the image to be taken for *reference*.

    Raises:
        UserError: it is refused, or replaced by what is no image.
    """
    before = PolicySource(f"{IMAGE}{reference}", platform=platform)
    after = policies.apply(before)
    if after == before:
        return reference
    context = _read(reference.familiar, after)
    if isinstance(context, ImageContext) and context.reference is not None and not context.layout:
        return context.reference
    raise _cannot(before, after)


def ruled_context(policies: Policies, context: NamedContext, platform: Platform) -> NamedContext:
    """Return the context that stands for *context*; it may be of another kind.

    Args:
        platform: the one that an image is taken for.

    Raises:
        UserError: it is refused, or replaced by what cannot be read.
    """
    match context:
        case ImageContext(layout="", reference=Reference() as reference):
            before = PolicySource(f"{IMAGE}{reference}", platform=platform)
        case ImageContext(layout=layout) if layout:
            before = PolicySource(LAYOUT + layout, platform=platform)
        case LocalContext(name=name):
            before = PolicySource(LOCAL + name)
        case RemoteContext(source=source):
            before = _written(source)
        case _:
            return context
    after = policies.apply(before)
    if after == before:
        return context
    keep = context.source if isinstance(context, RemoteContext) else None
    return _read(context.name, after, keep)


def ruled_local(policies: Policies, name: str) -> None:
    """Let pass the client's directory *name*.

    Raises:
        UserError: it is refused; what it is to be replaced by is no use for what was read of it.
    """
    before = PolicySource(LOCAL + name)
    after = policies.apply(before)
    if after != before:
        raise _cannot(before, after)


def ruled(policies: Policies, source: Remote) -> Remote:
    """Return the source that is fetched for *source*.

    Raises:
        UserError: it is refused, or replaced by what is no remote source.
    """
    before = _written(source)
    after = policies.apply(before)
    if after == before:
        return source
    context = _read("", after, source)
    if isinstance(context, RemoteContext):
        return context.source
    raise _cannot(before, after)


def identifier_of(source: Remote) -> str:
    """Return the name that policies know a source by."""
    return _written(source).identifier


def _cannot(before: PolicySource, after: PolicySource) -> UserError:
    return UserError(
        f'source policy: "{before.identifier}" cannot be replaced by "{after.identifier}" here'
    )


def _written(source: Remote) -> PolicySource:
    if isinstance(source, HttpSource):
        return PolicySource(source.url, _given({"http.checksum": source.checksum or ""}))
    scheme, mark, rest = source.remote.partition("://")
    if not mark:
        rest = scheme.partition("@")[2].replace(":", "/", 1)
    host, slash, path = rest.partition("/")
    fragment = source.ref + (f":{source.subdir}" if source.subdir else "")
    identifier = GIT + host.rpartition("@")[2] + slash + path + (f"#{fragment}" if fragment else "")
    return PolicySource(
        identifier,
        _given(
            {
                "git.fullurl": source.remote,
                "git.checksum": source.checksum,
                "git.keepgitdir": "true" if source.keep_git_dir else "",
                "git.skipsubmodules": "" if source.submodules else "true",
            }
        ),
    )


def _given(attrs: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in attrs.items() if value}


def _read(name: str, source: PolicySource, before: Remote | None = None) -> NamedContext:
    """Return *source* as a context called *name*; *before* is the source that it replaces."""
    identifier, attrs = source.identifier, dict(source.attrs)
    scheme, mark, rest = identifier.partition("://")
    try:
        match scheme if mark else "":
            case "docker-image":
                context: NamedContext = ImageContext(name, Reference.parse(rest))
            case "oci-layout" if rest:
                context = ImageContext(name, Reference.parse(name), rest)
            case "local" if rest:
                context = LocalContext(rest)
            case "http" | "https" if is_http(identifier):
                context = RemoteContext(name, _http(identifier, attrs, before), identifier)
            case "git" if rest:
                context = RemoteContext(name, _git(rest, attrs, before), identifier)
            case _:
                raise UserError(f'source policy: "{identifier}" is no source')
    except ValueError as error:
        raise UserError(f'source policy: "{identifier}": {error}') from error
    if attrs:
        raise UserError(f'source policy: "{identifier}" has no attribute "{min(attrs)}"')
    if isinstance(context, RemoteContext):
        return replace(context, shown=without_credentials(context.shown))
    return context


def _http(url: str, attrs: dict[str, str], before: Remote | None) -> HttpSource:
    checksum = attrs.pop("http.checksum", "")
    digest = Digest.parse(checksum) if checksum else None
    name = attrs.pop("http.filename", "")
    if isinstance(before, HttpSource):  # it keeps the name that its users know
        return replace(before, url=url, checksum=digest, filename=name or before.filename)
    return HttpSource(url=url, checksum=digest, filename=name or file_name(url))


def _git(rest: str, attrs: dict[str, str], before: Remote | None) -> GitSource:
    rest, _, fragment = rest.partition("#")
    ref, _, subdir = fragment.partition(":")
    remote = attrs.pop("git.fullurl", "") or f"https://{rest}"
    if parse_git_url(remote) is None and not remote.startswith("https://"):
        raise ValueError(f"{without_credentials(remote)} is no repository")
    kept = before if isinstance(before, GitSource) else GitSource(remote=remote)
    return replace(
        kept,
        remote=remote,
        ref=ref,
        subdir=paths.clean(subdir).strip("/"),
        checksum=attrs.pop("git.checksum", ""),
        keep_git_dir=attrs.pop("git.keepgitdir", "") == "true",
        submodules=attrs.pop("git.skipsubmodules", "") != "true",
    )
