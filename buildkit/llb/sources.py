"""Sources, there and back: ``docker-image://``, ``local://``, ``git://``, http and OCI layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from pybuild.buildkit.llb import fields
from pybuild.buildkit.llb.graph import Entry, shortened
from pybuild.buildkit.llb.queries import (
    BlobQuery,
    BundleQuery,
    ImageQuery,
    LayoutQuery,
    LocalQuery,
    Query,
    UploadQuery,
)
from pybuild.buildkit.pb import ops as pb
from pybuild.frontend.giturl import file_name, is_http
from pybuild.frontend.lowering import paths
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import GitSource, HttpSource
from pybuild.model.platform import Platform
from pybuild.model.policy import ATTRIBUTES
from pybuild.model.reference import Reference

UPLOAD_HOST = "buildkit-session"
_MOST_HEADER = 4096
_MOST_LAYERS = 1 << 31
_UPLOADS = ("upload", "stdin")
SourceOrQuery = Query | LocalQuery | HttpSource | GitSource

_DEFAULT_MODE = "default"
_MODES = frozenset((_DEFAULT_MODE, "pull", "local"))
_TRANSPORT = re.compile(r"(?i:https?|ssh|git)://|[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:")
# Attributes that change nothing of what is built.
_UNSEEN = frozenset(("image.recordtype", "local.unique"))
_BLOBS = ("docker-image+blob", "oci-layout+blob")
_SECRET_NAMES = {"git.authheadersecret": "GIT_AUTH_HEADER", "git.authtokensecret": "GIT_AUTH_TOKEN"}


def read_source(entry: Entry, platform: Platform) -> SourceOrQuery:
    """Return the source, or the query that must be answered first.

    Raises:
        UserError: it is of a kind or has an attribute that we do not have.
    """
    source = entry.op.source
    if entry.inputs:
        raise entry.wrong("a source has no inputs")
    identifier = fields.text(source.identifier, "a source")
    scheme, mark, rest = identifier.partition("://")
    attrs = _Attrs(source.attrs, identifier)
    match scheme if mark else "":
        case "docker-image":
            source_or_query: SourceOrQuery = _image(rest, attrs, platform)
        case "oci-layout":
            source_or_query = _layout(rest, attrs, platform)
        case scheme if scheme in _BLOBS:
            source_or_query = _blob(identifier, rest, attrs)
        case "local":
            source_or_query = _local(rest, attrs)
        case "git":
            source_or_query = _bundled(_git(rest, attrs), attrs)
        case "http" | "https":
            source_or_query = _http(identifier, attrs)
        case _:
            shown = shortened(identifier)
            raise entry.wrong(f'source "{shown}" is of a kind that is not supported')
    attrs.refuse_rest(ATTRIBUTES[scheme])
    return source_or_query


class _Attrs:
    """Attributes of one source; each is taken once, and those that nobody takes are refused."""

    def __init__(self, values: Mapping[str, str], identifier: str) -> None:
        self._values = dict(values)
        self._identifier = identifier

    def take(self, name: str) -> str:
        return fields.text(self._values.pop(name, ""), name)

    def headers(self, prefix: str) -> dict[str, str]:
        """Take headers by their lower-case names; who asks knows which of them count.

        Raises:
            UserError: one that would not stay a line of its own.
        """
        headers: dict[str, str] = {}
        for name in [name for name in self._values if name.startswith(prefix)]:
            value = self._values.pop(name)
            if len(value) > _MOST_HEADER or not (value.isascii() and value.isprintable()):
                raise UserError(f'"{shortened(name)}" is no header: only printable characters')
            headers[name.removeprefix(prefix).lower()] = value
        return headers

    def flag(self, name: str) -> bool:
        return fields.boolean(self.take(name), name)

    def patterns(self, name: str) -> tuple[str, ...]:
        return fields.patterns(self.take(name), name)

    def refuse_rest(self, kind: str) -> None:
        """Raise UserError for an attribute of the source's *kind* that nobody took.

        Others mean nothing to it: policies mark sources with what is theirs.
        """
        rest = sorted(name for name in set(self._values) - _UNSEEN if name.startswith(kind))
        if rest:
            shown, name = shortened(self._identifier), shortened(rest[0])
            raise UserError(f'source "{shown}": the attribute "{name}" is not supported')


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise UserError(str(error)) from error


def _digest(text: str, what: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except ValueError as error:
        raise UserError(f"{what}: {error}") from error


def _image(rest: str, attrs: _Attrs, platform: Platform) -> ImageQuery:
    mode = attrs.take("image.resolvemode") or _DEFAULT_MODE
    if mode not in _MODES:
        raise UserError(f'invalid value for resolvemode: "{mode}"')
    checksum = _digest(attrs.take("image.checksum"), "image.checksum")
    limit = attrs.take("image.layerlimit")
    layers = fields.number(limit, "image.layerlimit") if limit else 0
    if limit and not 0 < layers < _MOST_LAYERS:
        raise UserError(f'invalid layer limit "{limit}"')
    return ImageQuery(
        reference=_reference(rest), platform=platform, mode=mode, checksum=checksum, layers=layers
    )


def _layout(rest: str, attrs: _Attrs, platform: Platform) -> LayoutQuery:
    reference = _reference(rest)
    if reference.digest is None:
        raise UserError(f'source "oci-layout://{rest}" has no digest')
    store, session = attrs.take("oci.store"), attrs.take("oci.session")
    return LayoutQuery(reference=reference, platform=platform, store=store, session=session)


def _blob(url: str, rest: str, attrs: _Attrs) -> BlobQuery:
    reference = _reference(rest)
    if reference.digest is None or reference.digest.algorithm != "sha256":
        raise UserError(f'source "{shortened(url)}" has no digest')
    is_layout = url.startswith("oci-layout")
    store, _session = attrs.take("oci.store"), attrs.take("oci.session")
    if is_layout and not store:
        raise UserError("oci-layout blob source requires store id")
    filename, mode, uid, gid = _file(attrs)
    return BlobQuery(
        url=url,
        reference=reference,
        is_layout=is_layout,
        store=store,
        filename=filename or reference.digest.hex,
        mode=mode,
        uid=uid,
        gid=gid,
    )


def _file(attrs: _Attrs) -> tuple[str, int, int, int]:
    """Return the name, the mode and the owner that a fetched file is to have."""
    numbers = {name: attrs.take(f"http.{name}") or "0" for name in ("uid", "gid")}
    perm = attrs.take("http.perm")
    return (
        attrs.take("http.filename"),
        fields.mode(fields.number(perm, "http.perm", 8), "http.perm") if perm else 0o600,
        fields.owner_id(fields.number(numbers["uid"], "http.uid"), "http.uid"),
        fields.owner_id(fields.number(numbers["gid"], "http.gid"), "http.gid"),
    )


def _local(rest: str, attrs: _Attrs) -> LocalQuery:
    if not rest:
        raise UserError("invalid definition: a local source has no name")
    differ = attrs.take("local.differ") or "metadata"
    if differ not in ("metadata", "none"):
        raise UserError(f'invalid value for differ: "{differ}"')
    return LocalQuery(
        dir_name=rest,
        session=attrs.take("local.session"),
        include=attrs.patterns("local.includepattern"),
        exclude=attrs.patterns("local.excludepatterns"),
        follow=attrs.patterns("local.followpaths"),
        shared_key=attrs.take("local.sharedkeyhint"),
        compare=differ == "metadata",
        metadata_only=attrs.flag("local.metadatatransfer"),
        metadata_except=attrs.patterns("local.metadatatransferexclude"),
    )


def _http(url: str, attrs: _Attrs) -> HttpSource | UploadQuery:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise UserError(f'invalid URL "{url}": {error}') from error
    given, mode, uid, gid = _file(attrs)
    filename = given or file_name(url)
    headers = attrs.headers("http.header.")
    auth_secret = attrs.take("http.authheadersecret")
    if parts.netloc == UPLOAD_HOST:
        attrs.take("http.checksum")
        return UploadQuery(id=parts.path.strip("/"), filename=filename)
    if not host:
        raise UserError(f'invalid URL "{url}": no host')
    return HttpSource(
        url=url,
        checksum=_digest(attrs.take("http.checksum"), "http.checksum"),
        filename=filename,
        mode=mode,
        uid=uid,
        gid=gid,
        auth_secret=auth_secret,
        accept=headers.get("accept", ""),
        user_agent=headers.get("user-agent", ""),
        server_names=not given,
    )


def _git(rest: str, attrs: _Attrs) -> GitSource:
    rest, _, fragment = rest.partition("#")
    ref, _, subdir = fragment.partition(":")
    remote = attrs.take("git.fullurl") or rest
    if not _TRANSPORT.match(remote):
        remote = "https://" + remote
    for name, default in _SECRET_NAMES.items():
        name_given = attrs.take(name)
        if name_given not in ("", default):
            raise UserError(f'git credentials in a secret called "{name_given}" are not supported')
    agent = attrs.take("git.mountsshsock")
    if agent not in ("", "default"):
        raise UserError(f'git over the ssh agent "{agent}" is not supported')
    mtime = attrs.take("git.mtime")
    if mtime not in ("", "checkout", "commit"):
        raise UserError(f'invalid mtime value: "{mtime}" (must be "checkout" or "commit")')
    return GitSource(
        remote=remote,
        ref=ref,
        subdir=paths.clean(subdir).strip("/"),
        keep_git_dir=attrs.flag("git.keepgitdir"),
        checksum=attrs.take("git.checksum"),
        submodules=not attrs.flag("git.skipsubmodules"),
        mtime="commit" if mtime == "commit" else "",
        fetch_by_commit=attrs.flag("git.fetchbycommit"),
        known_hosts=attrs.take("git.knownsshhosts"),
        as_bundle=attrs.flag("git.checkoutbundle"),
    )


def _bundled(source: GitSource, attrs: _Attrs) -> GitSource | BundleQuery:
    """Return *source*, or the query for the bundle that its commits come from."""
    if source.as_bundle and source.keep_git_dir:
        raise UserError("git.checkoutbundle is incompatible with git.keepgitdir")
    if source.as_bundle and source.subdir:
        raise UserError("git.checkoutbundle is incompatible with git.subdir")
    url = attrs.take("git.bundle")
    store, _session = attrs.take("oci.store"), attrs.take("oci.session")
    if not url:
        return source
    scheme, mark, rest = url.partition("://")
    if not mark:
        raise UserError(f'failed to parse git.bundle locator "{shortened(url)}": missing scheme')
    if scheme not in _BLOBS:
        raise UserError(
            f'git.bundle locator scheme "{shortened(scheme)}" is not supported; '
            'expected "docker-image+blob" or "oci-layout+blob"'
        )
    if not source.checksum:
        raise UserError("git.bundle requires git.checksum to be set")
    reference = _reference(rest)
    if reference.digest is None or reference.digest.algorithm != "sha256":
        raise UserError(f'git.bundle locator "{shortened(url)}" has no sha256 digest')
    blob = BlobQuery(
        url=url,
        reference=reference,
        is_layout=scheme == _BLOBS[1],
        store=store or reference.path,
        filename="bundle",
    )
    return BundleQuery(source=replace(source, bundle=blob.url), blob=blob)


# --- back -----------------------------------------------------------------------------------------


def write_local(query: LocalQuery) -> pb.SourceOp:
    import json

    source = pb.SourceOp(identifier=f"local://{query.dir_name}")
    lists = {
        "local.includepattern": query.include,
        "local.excludepatterns": query.exclude,
        "local.followpaths": query.follow,
        "local.metadatatransferexclude": query.metadata_except,
    }
    for name, values in lists.items():
        if values:
            source.attrs[name] = json.dumps(list(values), separators=(",", ":"))
    texts = {
        "local.session": query.session,
        "local.sharedkeyhint": query.shared_key,
        "local.differ": "" if query.compare else "none",
        "local.metadatatransfer": "true" if query.metadata_only else "",
    }
    _set(source, texts)
    return source


def write_http(op: HttpSource) -> pb.SourceOp:
    url = op.url
    scheme, _, id = url.partition(":")
    if scheme in _UPLOADS:  # what came with a request is called as its client would call it
        url = f"http://{UPLOAD_HOST}/{id or scheme}"
    is_blob = scheme.endswith("+blob")
    if not is_blob and not is_http(url):
        raise UserError(f'"{url}" is no http(s) URL')
    source = pb.SourceOp(identifier=url)
    texts = {
        "http.checksum": "" if is_blob else op.checksum or "",
        "http.filename": "" if op.server_names else op.filename,
        "http.perm": f"{op.mode:#o}".replace("0o", "0") if op.mode != 0o600 else "",
        "http.uid": str(op.uid) if op.uid else "",
        "http.gid": str(op.gid) if op.gid else "",
        "http.authheadersecret": op.auth_secret,
        "http.header.accept": op.accept,
        "http.header.user-agent": op.user_agent,
    }
    _set(source, texts)
    return source


def write_git(op: GitSource) -> pb.SourceOp:
    scheme, mark, rest = op.remote.partition("://")
    if not mark:
        rest = scheme.partition("@")[2].replace(":", "/", 1)
    rest = rest.partition("/")[0].rpartition("@")[2] + "/" + rest.partition("/")[2]
    fragment = op.ref + (f":{op.subdir}" if op.subdir else "")
    source = pb.SourceOp(identifier=f"git://{rest}" + (f"#{fragment}" if fragment else ""))
    is_ssh = not mark or scheme.lower() == "ssh"
    texts = {
        "git.fullurl": op.remote,
        "git.keepgitdir": "true" if op.keep_git_dir else "",
        "git.checksum": op.checksum,
        "git.skipsubmodules": "" if op.submodules else "true",
        "git.mtime": op.mtime,
        "git.fetchbycommit": "true" if op.fetch_by_commit else "",
        "git.knownsshhosts": op.known_hosts,
        "git.mountsshsock": "default" if is_ssh else "",
        "git.bundle": op.bundle,
        "git.checkoutbundle": "true" if op.as_bundle else "",
        **({} if is_ssh else _SECRET_NAMES),
    }
    _set(source, texts)
    return source


def _set(source: pb.SourceOp, texts: Mapping[str, str]) -> None:
    for name, value in texts.items():
        if value:
            source.attrs[name] = value
