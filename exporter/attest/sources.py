"""The sources of a build: images, repositories, files, and things handed to its steps [ATT-2]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from pybuild.executor.proxies.record import Uncaptured
from pybuild.image.purl import DOCKER, OCI, package_url
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    ExecOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    MountType,
    NetworkMode,
    OciLayoutSource,
    Vertex,
    walk,
)
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.secrets import without_secrets


@dataclass(frozen=True, slots=True)
class UsedImage:
    """An image by its requested name, and its manifest; *local*: of a layout."""

    reference: Reference
    platform: Platform | None
    digest: Digest
    local: bool = False


StepRequests = tuple[Mapping[str, str], Sequence[Uncaptured]]
"""The requests of a step through its proxy: SHA-256 by URL, and those whose answers are no materials."""


@dataclass(frozen=True, slots=True)
class UncapturedRequest:
    """A request of a step that provenance cannot name the content of.

    Attributes:
        step: its digest; *name*: its command.
    """

    step: str
    name: str
    request: Uncaptured


class Pins(Protocol):
    """Tells the content that sources had in a build; nothing is fetched for that a second time."""

    async def commit(self, op: GitSource) -> str:
        """Return the id of the commit, in hex."""
        ...

    async def sha256(self, op: HttpSource) -> str:
        """Return the digest of the file, in hex."""
        ...

    def local_name(self, op: LocalSource) -> str:
        """Return the client's name for the directory."""
        ...

    def requests(self, vertex: Vertex) -> StepRequests | None:
        """Return the requests of a step to its proxy; None: they are not known."""
        ...


@dataclass(slots=True)
class UsedSources:
    """The sources of one result.

    Attributes:
        git: commit by URL with ref; *http*: sha256 by URL, both without credentials.
        secrets, ssh: whether they may be missing, by id; values are never here [SEC-2].
        network: a step could reach the network.
        incomplete: a source was used that has no place here, such as a client's upload.
        proxied: a step had a proxy; *uncaptured*: what is not known of its requests.
    """

    images: list[UsedImage] = field(default_factory=list[UsedImage])
    git: dict[str, str] = field(default_factory=dict[str, str])
    http: dict[str, str] = field(default_factory=dict[str, str])
    locals: set[str] = field(default_factory=set[str])
    secrets: dict[str, bool] = field(default_factory=dict[str, bool])
    ssh: dict[str, bool] = field(default_factory=dict[str, bool])
    network: bool = False
    incomplete: bool = False
    proxied: bool = False
    uncaptured: list[UncapturedRequest] = field(default_factory=list[UncapturedRequest])

    @property
    def complete(self) -> bool:
        """Whether `materials` names everything: directories of the client have no name."""
        return not (self.incomplete or self.locals or self.uncaptured)

    def merge(self, other: UsedSources) -> None:
        """Add the sources of *other*."""
        for image in other.images:
            if image not in self.images:
                self.images.append(image)
        self.git |= other.git
        self.http |= other.http
        self.locals |= other.locals
        for ids, more in ((self.secrets, other.secrets), (self.ssh, other.ssh)):
            for id, optional in more.items():
                ids[id] = ids.get(id, True) and optional
        self.network |= other.network
        self.incomplete |= other.incomplete
        self.proxied |= other.proxied
        self.uncaptured += [one for one in other.uncaptured if one not in self.uncaptured]

    def materials(self) -> list[dict[str, Any]]:
        """Return a ``uri`` and a ``digest`` for each source: images, then git, then files."""
        images = {
            package_url(image.reference, image.platform, OCI if image.local else DOCKER): image
            for image in self._named()
        }
        materials = [_material(uri, images[uri].digest) for uri in sorted(images)]
        for url, commit in sorted(self.git.items()):
            algorithm = "sha256" if len(commit) == 64 else "sha1"
            materials.append({"uri": url, "digest": {algorithm: commit}})
        for url, sha256 in sorted(self.http.items()):
            materials.append({"uri": url, "digest": {"sha256": sha256}})
        return materials

    def _named(self) -> Iterable[UsedImage]:
        """Leave out images known by digest alone where the same is there by the name it came by."""
        requested = {
            (image.reference.repository, image.reference.tag or "latest", image.platform)
            for image in self.images
            if image.reference.digest is None
        }
        for image in self.images:
            reference = image.reference
            key = (reference.repository, reference.tag or "latest", image.platform)
            if reference.digest is None or key not in requested:
                yield image

    def find(self, uri: str) -> dict[str, str] | None:
        """Return the digest of the git or http source *uri*; None where it is none of these."""
        for material in self.materials():
            if material["uri"] == uri and not uri.startswith("pkg:"):
                digest: dict[str, str] = material["digest"]
                return digest
        return None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a request for directories, secrets and agents."""
        parameters: dict[str, Any] = {}
        for name, ids in (("secrets", self.secrets), ("ssh", self.ssh)):
            if ids:
                parameters[name] = [
                    {"id": id, **({"optional": True} if ids[id] else {})} for id in sorted(ids)
                ]
        if self.locals:
            parameters["locals"] = [{"name": name} for name in sorted(self.locals)]
        return parameters


def _material(uri: str, digest: Digest) -> dict[str, Any]:
    return {"uri": uri, "digest": {digest.algorithm: digest.hex}}


async def sources_of(
    targets: Iterable[Vertex], pins: Pins, images: Iterable[UsedImage] = ()
) -> UsedSources:
    """Return the sources that the graphs below *targets* use.

    Args:
        images: those that a frontend has resolved, under the names that it used.
    """
    sources = UsedSources(images=list(dict.fromkeys(images)))
    known = {(image.reference.repository, image.digest) for image in sources.images}
    layouts = {image.digest for image in sources.images if image.local}
    for vertex in walk(*targets):
        match vertex.op:
            case ImageSource(digest=digest, reference=reference, platform=platform):
                if (reference.repository, digest) not in known:
                    sources.images.append(UsedImage(reference, platform, digest))
            case OciLayoutSource(digest=digest):
                sources.incomplete |= digest not in layouts
            case LocalSource() as op:
                sources.locals.add(pins.local_name(op))
            case GitSource() as op:
                url = op.remote + (f"#{op.ref}" if op.ref else "")
                sources.git[without_secrets(url)] = await pins.commit(op)
                if op.bundle:
                    name = _blob_name(op.bundle, "bundle", vcs_url=without_secrets(url))
                    sources.http[name] = op.bundle.rpartition(":")[2]
            case HttpSource() as op:
                if op.url.partition(":")[0].lower() in ("http", "https"):
                    sources.http[without_secrets(op.url)] = await pins.sha256(op)
                elif op.url.partition("://")[0].endswith("+blob") and op.checksum is not None:
                    sources.http[_blob_name(op.url)] = op.checksum.hex
                else:
                    sources.incomplete = True  # came with the request
            case ExecOp() as op:
                sources.network |= op.settings.network is not NetworkMode.NONE
                _given(op, sources)
                if op.proxied:
                    _add_requests(vertex, op, pins, sources)
            case _:
                pass
    return sources


def _add_requests(vertex: Vertex, op: ExecOp, pins: Pins, sources: UsedSources) -> None:
    sources.proxied = True
    materials, uncaptured = pins.requests(vertex) or ({}, [_UNKNOWN])
    sources.http |= materials
    name = " ".join(op.args)
    sources.uncaptured += [UncapturedRequest(str(vertex.digest), name, one) for one in uncaptured]


# Its result came from a cache that does not tell.
_UNKNOWN = Uncaptured("", "", "unknown_requests")


def _blob_name(url: str, what: str = "blob", **qualifiers: str) -> str:
    """Return the package URL of a blob that is a source."""
    scheme, _, name = url.partition("://")
    kind = OCI if scheme.startswith("oci") else DOCKER
    return package_url(Reference.parse(name), None, kind, ref_type=what, **qualifiers)


def _given(op: ExecOp, sources: UsedSources) -> None:
    kinds: Mapping[MountType, dict[str, bool]] = {
        MountType.SECRET: sources.secrets,
        MountType.SSH: sources.ssh,
    }
    for mount in op.mounts:
        ids = kinds.get(mount.type)
        if ids is not None:
            id = mount.id or "default"
            ids[id] = ids.get(id, True) and not mount.required
