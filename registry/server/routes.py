"""The subject of a request, read from its method and path; pure [end-1..14].

Whatever comes out of here is a valid name, tag, digest or upload id: the rest of the server never
sees any other text as one of these, so no path can lead anywhere.
"""

from __future__ import annotations

import re
from enum import StrEnum

from pybuild.cache.repositories.repositories import is_name, is_tag
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.registry.server.refusal import Code, Refusal, digest_invalid, manifest_unknown

_PATHS = re.compile(
    r"/v2/(?:"
    r"(?P<catalog>_catalog)"
    r"|(?P<tags>.+)/tags/list"
    r"|(?P<manifests>.+)/manifests/(?P<reference>[^/]+)"
    r"|(?P<uploads>.+)/blobs/uploads/?"
    r"|(?P<upload>.+)/blobs/uploads/(?P<id>[^/]+)"
    r"|(?P<blobs>.+)/blobs/(?P<digest>[^/]+)"
    r"|(?P<referrers>.+)/referrers/(?P<subject>[^/]+)"
    r")?\Z"
)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


class Kind(StrEnum):
    """The kind of thing that a path names."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    BLOB = "blob"
    REFERRERS = "referrers"


class Action(StrEnum):
    """The rights to act on a repository; the words of token scopes."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


METHODS = {
    Kind.BASE: ("GET", "HEAD"),
    Kind.CATALOG: ("GET",),
    Kind.TAGS: ("GET",),
    Kind.MANIFEST: ("GET", "HEAD", "PUT", "DELETE"),
    Kind.UPLOADS: ("POST",),
    Kind.UPLOAD: ("GET", "PATCH", "PUT", "DELETE"),
    Kind.BLOB: ("GET", "HEAD", "DELETE"),
    Kind.REFERRERS: ("GET",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, understood.

    Attributes:
        name: the repository's; empty for BASE and CATALOG.
        digest: of a blob, a manifest or a subject.
        tag: of a manifest that is named by one.
        id: of an upload.
    """

    kind: Kind
    method: str
    name: str = ""
    digest: Digest | None = None
    tag: str = ""
    id: str = ""

    @property
    def action(self) -> Action | None:
        """The right that the call needs; None where being logged in is enough."""
        if self.kind is Kind.BASE:
            return None
        if self.kind in (Kind.UPLOADS, Kind.UPLOAD):
            return Action.PUSH
        if self.method in ("GET", "HEAD"):
            return Action.PULL
        return Action.DELETE if self.method == "DELETE" else Action.PUSH


def understand(method: str, path: str) -> Call:
    """Return the call that *method* and *path*, percent-decoded, make.

    Raises:
        Refusal: nothing that there is, or a name, tag, digest or id that cannot be one.
    """
    match = _PATHS.match(path)
    if match is None and path != "/v2":
        raise Refusal(404, Code.UNSUPPORTED, "there is nothing at this path")
    call = _called(method, match) if match else Call(kind=Kind.BASE, method=method)
    allowed = METHODS[call.kind]
    if method not in allowed:
        raise Refusal(
            405,
            Code.UNSUPPORTED,
            f"{method[:20]} is not for {call.kind} paths",
            {"Allow": ", ".join(allowed)},
        )
    return call


def _called(method: str, match: re.Match[str]) -> Call:
    groups = {key: text for key, text in match.groupdict().items() if text is not None}
    if not groups:
        return Call(kind=Kind.BASE, method=method)
    if "catalog" in groups:
        return Call(kind=Kind.CATALOG, method=method)
    name = next(iter(groups.values()))
    if not is_name(name):
        raise Refusal(400, Code.NAME_INVALID, f'"{name[:300]}" cannot name a repository')
    if "tags" in groups:
        return Call(kind=Kind.TAGS, method=method, name=name)
    if "uploads" in groups:
        return Call(kind=Kind.UPLOADS, method=method, name=name)
    if "upload" in groups:
        if not _ID.match(groups["id"]):
            raise Refusal(404, Code.BLOB_UPLOAD_UNKNOWN, "there is no such upload")
        return Call(kind=Kind.UPLOAD, method=method, name=name, id=groups["id"])
    if "blobs" in groups:
        digest = parse_digest(groups["digest"])
        return Call(kind=Kind.BLOB, method=method, name=name, digest=digest)
    if "referrers" in groups:
        digest = parse_digest(groups["subject"])
        return Call(kind=Kind.REFERRERS, method=method, name=name, digest=digest)
    reference = groups["reference"]
    if ":" in reference:
        digest = parse_digest(reference)
        return Call(kind=Kind.MANIFEST, method=method, name=name, digest=digest)
    if not is_tag(reference):
        if method == "PUT":
            raise Refusal(400, Code.MANIFEST_INVALID, f'"{reference[:200]}" cannot be a tag')
        raise manifest_unknown(reference[:200])
    return Call(kind=Kind.MANIFEST, method=method, name=name, tag=reference)


def parse_digest(text: str) -> Digest:
    """Return *text* as a digest.

    Raises:
        Refusal: it is none, or of an algorithm that we do not know.
    """
    try:
        return Digest.parse(text)
    except ValueError as error:
        raise digest_invalid(text) from error
