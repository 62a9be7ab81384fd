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
from pybuild.registry.server.refusal import Refusal, RefusalCode, digest_invalid, manifest_unknown

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


class RouteKind(StrEnum):
    """The kind of thing that a path names."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    BLOB = "blob"
    REFERRERS = "referrers"


class Permission(StrEnum):
    """The rights to act on a repository; the words of token scopes."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


METHODS = {
    RouteKind.BASE: ("GET", "HEAD"),
    RouteKind.CATALOG: ("GET",),
    RouteKind.TAGS: ("GET",),
    RouteKind.MANIFEST: ("GET", "HEAD", "PUT", "DELETE"),
    RouteKind.UPLOADS: ("POST",),
    RouteKind.UPLOAD: ("GET", "PATCH", "PUT", "DELETE"),
    RouteKind.BLOB: ("GET", "HEAD", "DELETE"),
    RouteKind.REFERRERS: ("GET",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCall:
    """One request, understood.

    Attributes:
        name: the repository's; empty for BASE and CATALOG.
        digest: of a blob, a manifest or a subject.
        tag: of a manifest that is named by one.
        id: of an upload.
    """

    kind: RouteKind
    method: str
    name: str = ""
    digest: Digest | None = None
    tag: str = ""
    id: str = ""

    @property
    def action(self) -> Permission | None:
        """The right that the call needs; None where being logged in is enough."""
        if self.kind is RouteKind.BASE:
            return None
        if self.kind in (RouteKind.UPLOADS, RouteKind.UPLOAD):
            return Permission.PUSH
        if self.method in ("GET", "HEAD"):
            return Permission.PULL
        return Permission.DELETE if self.method == "DELETE" else Permission.PUSH


def understand(method: str, path: str) -> RegistryCall:
    """Return the call that *method* and *path*, percent-decoded, make.

    Raises:
        Refusal: nothing that there is, or a name, tag, digest or id that cannot be one.
    """
    match = _PATHS.match(path)
    if match is None and path != "/v2":
        raise Refusal(404, RefusalCode.UNSUPPORTED, "there is nothing at this path")
    call = _called(method, match) if match else RegistryCall(kind=RouteKind.BASE, method=method)
    allowed = METHODS[call.kind]
    if method not in allowed:
        raise Refusal(
            405,
            RefusalCode.UNSUPPORTED,
            f"{method[:20]} is not for {call.kind} paths",
            {"Allow": ", ".join(allowed)},
        )
    return call


def _called(method: str, match: re.Match[str]) -> RegistryCall:
    groups = {key: text for key, text in match.groupdict().items() if text is not None}
    if not groups:
        return RegistryCall(kind=RouteKind.BASE, method=method)
    if "catalog" in groups:
        return RegistryCall(kind=RouteKind.CATALOG, method=method)
    name = next(iter(groups.values()))
    if not is_name(name):
        raise Refusal(400, RefusalCode.NAME_INVALID, f'"{name[:300]}" cannot name a repository')
    if "tags" in groups:
        return RegistryCall(kind=RouteKind.TAGS, method=method, name=name)
    if "uploads" in groups:
        return RegistryCall(kind=RouteKind.UPLOADS, method=method, name=name)
    if "upload" in groups:
        if not _ID.match(groups["id"]):
            raise Refusal(404, RefusalCode.BLOB_UPLOAD_UNKNOWN, "there is no such upload")
        return RegistryCall(kind=RouteKind.UPLOAD, method=method, name=name, id=groups["id"])
    if "blobs" in groups:
        digest = parse_digest(groups["digest"])
        return RegistryCall(kind=RouteKind.BLOB, method=method, name=name, digest=digest)
    if "referrers" in groups:
        digest = parse_digest(groups["subject"])
        return RegistryCall(kind=RouteKind.REFERRERS, method=method, name=name, digest=digest)
    reference = groups["reference"]
    if ":" in reference:
        digest = parse_digest(reference)
        return RegistryCall(kind=RouteKind.MANIFEST, method=method, name=name, digest=digest)
    if not is_tag(reference):
        if method == "PUT":
            raise Refusal(400, RefusalCode.MANIFEST_INVALID, f'"{reference[:200]}" cannot be a tag')
        raise manifest_unknown(reference[:200])
    return RegistryCall(kind=RouteKind.MANIFEST, method=method, name=name, tag=reference)


def parse_digest(text: str) -> Digest:
    """Return *text* as a digest.

    Raises:
        Refusal: it is none, or of an algorithm that we do not know.
    """
    try:
        return Digest.parse(text)
    except ValueError as error:
        raise digest_invalid(text) from error
